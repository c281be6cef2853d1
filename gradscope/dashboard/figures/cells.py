"""The cells of the map, see `reports.cells`."""

from gradscope.reports.cells import MEASURED as MEASURED
from gradscope.reports.cells import NON_FINITE as NON_FINITE
from gradscope.reports.cells import NOT_RECORDED as NOT_RECORDED
from gradscope.reports.cells import ZERO as ZERO
from gradscope.reports.cells import Cells as Cells
from gradscope.reports.cells import cells_of as cells_of
from gradscope.reports.cells import classify as classify
from gradscope.reports.cells import fold as fold
from gradscope.reports.cells import turned as turned

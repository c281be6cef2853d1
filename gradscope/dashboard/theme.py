"""The colours of the figures, see `reports.theme`."""

from gradscope.reports.theme import DARK as DARK
from gradscope.reports.theme import FONT as FONT
from gradscope.reports.theme import LIGHT as LIGHT
from gradscope.reports.theme import MONO as MONO
from gradscope.reports.theme import Theme as Theme
from gradscope.reports.theme import theme as theme

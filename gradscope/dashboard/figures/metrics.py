"""What the map can show, see `reports.metrics`."""

from gradscope.reports.metrics import DEFAULT_METRIC as DEFAULT_METRIC
from gradscope.reports.metrics import METRICS as METRICS
from gradscope.reports.metrics import Metric as Metric

"""Hold what an evaluation measured, with the interval in which each number would lie on other items like these."""

from rcc.measurement.interval import LEVEL as LEVEL
from rcc.measurement.interval import Interval as Interval
from rcc.measurement.metrics import Difference as Difference
from rcc.measurement.metrics import Measurement as Measurement
from rcc.measurement.metrics import Metric as Metric

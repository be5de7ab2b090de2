"""The five dashboards, in the order of their use."""

from monitoring.dashboards.boards.adaptive import ADAPTIVE
from monitoring.dashboards.boards.batching import BATCHING
from monitoring.dashboards.boards.device import DEVICE
from monitoring.dashboards.boards.overload import OVERLOAD
from monitoring.dashboards.boards.overview import OVERVIEW

BOARDS = (OVERVIEW, ADAPTIVE, BATCHING, OVERLOAD, DEVICE)

import subprocess
import sys

from monitoring.reference import PATH, render
from server.metrics import Metrics


def test_the_committed_page_is_current():
    assert PATH.read_text(encoding="utf-8") == render(), "python -m monitoring.reference was not run"


def test_a_reason_that_two_errors_share_is_one_value():
    """In a process of its own: what is imported first decides which errors there are."""
    both = "import server.backends.cuda.devices; from server.metrics.metrics import REASONS as all"
    subprocess.run([sys.executable, "-c", f"{both}; assert len(set(all)) == len(all), all"], check=True)


def test_every_metric_stands_in_it_once():
    page = render()
    for meter in Metrics().all:
        assert page.count(f"| `{meter.name}` |") == 1, meter.name

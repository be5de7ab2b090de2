from monitoring.reference import PATH, render
from server.metrics import Metrics


def test_the_committed_page_is_current():
    assert PATH.read_text(encoding="utf-8") == render(), "python -m monitoring.reference was not run"


def test_every_metric_stands_in_it_once():
    page = render()
    for meter in Metrics().all:
        assert page.count(f"| `{meter.name}` |") == 1, meter.name

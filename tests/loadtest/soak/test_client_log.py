"""The soak's books: sums that agree pass, and every kind of disagreement shows."""

import json

import pytest

from loadtest.metrics import parse_metrics, total
from loadtest.repository import RepositoryCopy
from loadtest.soak.client_log import ANONYMOUS, STATUS_OF, ClientLog, Usage, compare
from server.errors import STATUS, all_errors, status_of

EXPOSITION = """
# HELP adatape_requests_total Requests settled, by outcome
adatape_requests_total{model="m",outcome="ok",protocol="classify"} 5.0
adatape_requests_total{model="m",outcome="cancelled",protocol="classify"} 1.0
adatape_requests_total{model="none",outcome="bad_request",protocol="classify"} 2.0 # {trace_id="x"} 1
adatape_inferences_total{model="m"} 7.0
adatape_flops_total{kind="useful",model="m"} 730.0
adatape_flops_total{kind="padding",model="m"} 1.0
adatape_executed_flops_total{model="m",stage="trunk",bucket="0"} 731.0
adatape_pending_samples 0.0
adatape_executions_running 0.0
adatape_open_connections 1.0
adatape_ready 1.0
"""
USAGE = {
    "anonymous": {"num_samples": 5, "useful_flops": 330, "executed_flops": 400},
    "steady": {"num_samples": 2, "useful_flops": 400, "executed_flops": 410},
    "operators": {"num_samples": 0, "useful_flops": 0, "executed_flops": 0},
}


def log() -> ClientLog:
    """Return what a client would know: four answers and two refusals, and two calls that left, one in vain."""
    made = ClientLog(abandoned_flops=100)
    for _ in range(4):
        made.add("classify", 200, 200)
    for _ in range(2):
        made.add("classify", 400, 400)
        made.add_abandoned("classify")
    made.add_receipts(ANONYMOUS, 4, 230, 300)
    made.add_receipts("steady", 2, 400, 410)
    return made


def differences(made: ClientLog, text: str = EXPOSITION, usage: Usage = USAGE) -> set[str]:
    return {each.name for each in compare(made, parse_metrics(text), usage) if each.expected != each.counted}


def test_books_that_agree():
    assert differences(log()) == set()
    assert len(list(compare(log(), parse_metrics(EXPOSITION), USAGE))) == 14
    assert (log().num_calls, log().num_unexpected) == (8, 0)


@pytest.mark.parametrize(
    ("theirs", "instead", "shown"),
    [
        ('"ok",protocol="classify"} 5', '"ok",protocol="classify"} 4', {"classify calls", "classify calls that left"}),
        ('"cancelled",protocol="classify"} 1', '"cancelled",protocol="classify"} 2', {"classify calls"}),
        ("bad_request", "deadline", {"classify 400", "classify 504"}),
        ("730.0", "731.0", {"useful FLOPs", "FLOPs by execution, and by what they were for"}),
        ('inferences_total{model="m"} 7', 'inferences_total{model="m"} 8', {"samples answered"}),
        ("pending_samples 0", "pending_samples 1", {"samples pending at the end"}),
        ("executions_running 0", "executions_running 1", {"executions running at the end"}),
        ("connections 1", "connections 2", {"connections at the end: that which asks"}),
    ],
)
def test_books_that_disagree(theirs, instead, shown):
    assert shown <= differences(log(), EXPOSITION.replace(theirs, instead))


@pytest.mark.parametrize(
    ("tenant", "name", "shown"),
    [
        ("anonymous", "num_samples", "samples of anonymous"),
        ("anonymous", "useful_flops", "useful FLOPs of anonymous"),
        ("steady", "executed_flops", "executed FLOPs of steady"),
        ("operators", "num_samples", "samples of operators"),
    ],
)
def test_bills_that_disagree_with_receipts(tenant, name, shown):
    wrong = {**USAGE, tenant: {**USAGE[tenant], name: USAGE[tenant][name] + 1}}
    assert differences(log(), usage=wrong) == {shown}


def test_a_tenant_that_nobody_billed_shows():
    assert "samples of steady" in differences(log(), usage={"anonymous": USAGE["anonymous"]})


def test_few_cancelled_rpcs_may_stay_unread_and_not_more():
    for num_unread, expected in ((10, set()), (11, {"oip_grpc calls that left"})):
        made = ClientLog(abandoned_flops=100)
        for _ in range(100):
            made.add_abandoned("oip_grpc")
        text = f'adatape_requests_total{{model="m",outcome="cancelled",protocol="oip_grpc"}} {100 - num_unread}'
        names = {
            name.partition(" (")[0] for name in differences(made, text, {}) if name.startswith("oip_grpc calls that")
        }
        assert names == expected


def test_an_answer_that_is_lost_shows_though_others_left():
    made = log()
    made.statuses["classify", 200] -= 1
    made.add("classify", 0, 200)
    assert "classify calls that left" in differences(made)


def test_an_unexpected_answer_is_kept():
    made = log()
    made.add("oip", 500, 200, "the server failed")
    assert (made.num_unexpected, made.faults) == (1, ["oip; got 500 the server failed; expected 200"])


def test_the_same_question_takes_the_same_flops():
    made = log()
    for flops in (70, 70, 70):
        made.add_cost((1, "image/png", 8), flops)
    made.add_cost((1, "image/png", 9), 80)
    assert (made.num_repeated, made.num_questions, made.faults) == (2, 2, [])
    made.add_cost((1, "image/png", 8), 71)
    assert made.faults == ["FLOPs of (1, 'image/png', 8); got 71; expected 70, as before"]


def test_every_outcome_of_the_server_has_its_status():
    assert {error.reason: status_of(error("x")) for error in all_errors()} | {"ok": 200} == STATUS_OF
    assert set(STATUS.values()) <= set(STATUS_OF.values())


def test_metrics_are_read():
    counts = parse_metrics(EXPOSITION)
    assert total(counts, "adatape_ready") == 1
    assert total(counts, "adatape_flops_total") == 731
    assert total(counts, "adatape_flops_total", kind="useful", model="m") == 730
    assert total(counts, "no_such_metric") == 0


def test_a_version_is_published_whole(tmp_path):
    source = tmp_path / "source" / "family" / "1"
    source.mkdir(parents=True)
    (source / "manifest.json").write_text(json.dumps({"family": "family", "version": "1", "labels": ["a"]}))
    repository = RepositoryCopy(tmp_path / "source", "family", tmp_path / "copy")
    manifest = json.loads((repository.publish(2) / "manifest.json").read_text())
    assert manifest == {"family": "family", "version": "2", "labels": ["a"]}
    assert [path.name for path in (tmp_path / "copy/family/2").iterdir()] == ["manifest.json"]
    repository.remove(2)
    assert not (tmp_path / "copy/family/2").exists()

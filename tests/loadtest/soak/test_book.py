"""The soak's books: sums that agree pass, and every kind of disagreement shows."""

import json

import pytest

from loadtest.serving import Footprint, Shelf, parse_metrics, total
from loadtest.soak.book import STATUS_OF, Book, compare
from loadtest.soak.watch import fit
from server.errors import STATUS, all_errors, status_of

EXPOSITION = """
# HELP adatape_requests_total Requests settled, by outcome
adatape_requests_total{model="m",outcome="ok",protocol="classify"} 5.0
adatape_requests_total{model="m",outcome="cancelled",protocol="classify"} 1.0
adatape_requests_total{model="none",outcome="bad_request",protocol="classify"} 2.0 # {trace_id="x"} 1
adatape_inferences_total{model="m"} 7.0
adatape_flops_total{kind="useful",model="m"} 730.0
adatape_flops_total{kind="padding",model="m"} 1.0
adatape_ready 1.0
"""


def book() -> Book:
    """Return what a client would know: four answers and two refusals, and two calls that left, one in vain."""
    made = Book(fickle_flops=100)
    for _ in range(4):
        made.add("classify", 200, 200)
    for _ in range(2):
        made.add("classify", 400, 400)
        made.left("classify")
    made.answered(6, 630)
    return made


def differences(made: Book, text: str = EXPOSITION) -> set[str]:
    return {name for name, mine, theirs in compare(made, parse_metrics(text)) if mine != theirs}


def test_books_that_agree():
    assert differences(book()) == set()
    assert len(list(compare(book(), parse_metrics(EXPOSITION)))) == 5
    assert (book().num_calls, book().num_unexpected) == (8, 0)


@pytest.mark.parametrize(
    ("theirs", "instead", "shown"),
    [
        ('"ok",protocol="classify"} 5', '"ok",protocol="classify"} 4', {"classify calls", "classify calls that left"}),
        ('"cancelled",protocol="classify"} 1', '"cancelled",protocol="classify"} 2', {"classify calls"}),
        ("bad_request", "deadline", {"classify 400", "classify 504"}),
        ("730.0", "731.0", {"useful FLOPs"}),
        ('inferences_total{model="m"} 7', 'inferences_total{model="m"} 8', {"samples answered"}),
    ],
)
def test_books_that_disagree(theirs, instead, shown):
    assert shown <= differences(book(), EXPOSITION.replace(theirs, instead))


def test_an_unexpected_answer_is_kept():
    made = book()
    made.add("oip", 500, 200, "the server failed")
    assert (made.num_unexpected, made.faults) == (1, ["oip; got 500 the server failed; expected 200"])


def test_every_outcome_of_the_server_has_its_status():
    assert {error.reason: status_of(error("x")) for error in all_errors()} | {"ok": 200} == STATUS_OF
    assert set(STATUS.values()) <= set(STATUS_OF.values())


def test_metrics_are_read():
    counts = parse_metrics(EXPOSITION)
    assert total(counts, "adatape_ready") == 1
    assert total(counts, "adatape_flops_total") == 731
    assert total(counts, "adatape_flops_total", kind="useful", model="m") == 730
    assert total(counts, "no_such_metric") == 0


def look(megabytes: float, descriptors: int = 20, threads: int = 9) -> Footprint:
    return Footprint(int(megabytes * 1e6), descriptors, threads)


def test_a_flat_run_has_no_slope():
    growth = fit(range(100), [*[look(50)] * 20, *[look(80)] * 80])
    assert abs(growth.slope_bytes_per_h) < 1
    assert growth.faults == []


def test_growth_after_warm_up_is_a_fault():
    growth = fit(range(100), [look(80 + second / 10, 20 + second // 10, 9 + second // 10) for second in range(100)])
    assert growth.slope_bytes_per_h == pytest.approx(360e6)
    assert [fault.split(";")[0] for fault in growth.faults] == ["memory", "descriptors", "threads"]


def test_a_version_is_published_whole(tmp_path):
    source = tmp_path / "source" / "family" / "1"
    source.mkdir(parents=True)
    (source / "manifest.json").write_text(json.dumps({"family": "family", "version": "1", "labels": ["a"]}))
    shelf = Shelf(tmp_path / "source", "family", tmp_path / "copy")
    manifest = json.loads((shelf.publish(2) / "manifest.json").read_text())
    assert manifest == {"family": "family", "version": "2", "labels": ["a"]}
    assert [path.name for path in (tmp_path / "copy/family/2").iterdir()] == ["manifest.json"]
    shelf.remove(2)
    assert not (tmp_path / "copy/family/2").exists()

"""What runs of peers say together, and what is said of a peer that does not run."""

import json
from pathlib import Path

import pytest

from benchmarks.peers.__main__ import reason
from benchmarks.peers.figures import OURS, Figures, SideBySide, read_details, to_details


def figures(rate: float, p50_ms: float) -> Figures:
    return Figures([rate, rate], [p50_ms] * 2, [9.0] * 2, [100.0] * 2, [1.0] * 2)


def test_a_python_server_is_held_to_two_aims_and_triton_to_one() -> None:
    sides = (figures(100.0, 4.0), figures(160.0, 2.0))
    rate, p50 = SideBySide("litserve", *sides).aims()
    assert (rate.value, rate.limit, rate.is_met) == (1.6, 1.5, True)
    assert (p50.value, p50.is_at_least, p50.is_met) == (0.5, False, True)
    (rate,) = SideBySide("triton", *sides).aims()
    assert rate.limit == 1.25


def test_a_table_has_ours_beside_each_peer() -> None:
    rows = list(SideBySide("triton", figures(100.0, 4.0), figures(160.0, 2.0)).rows())
    assert [(row["server"], row["images/s"]) for row in rows] == [("triton", 100.0), (f"{OURS} beside it", 160.0)]


def test_a_peer_that_does_not_run_misses_its_aim() -> None:
    broken = SideBySide("rayserve", error="rayserve: no raylet")
    assert not list(broken.rows())
    assert [aim.is_met for aim in broken.aims()] == [False]


def test_runs_join_to_what_they_measured(tmp_path: Path) -> None:
    found = [SideBySide("triton", figures(1.0, 2.0), figures(3.0, 4.0)), SideBySide("bentoml", error="why")]
    document = {"date": "today", "git": "abc", "command": "c", "details": {"peers": to_details(found)}}
    (tmp_path / "a.json").write_text(json.dumps(document))
    again, runs = read_details([tmp_path / "a.json"])
    assert again == found
    assert runs == ["today, abc: c"]
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"--join; got a\.json"):
        read_details([tmp_path / "a.json"])


def test_a_reason_is_the_last_words_without_paths() -> None:
    assert reason(SystemExit("one")) == "one"
    assert reason(SystemExit("a\n\nb\nc at /somewhere/deep/x.py\nd\n")) == "b … c at x.py … d"

"""When the open generator sends, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from loadtest.open import arrivals, main
from loadtest.usage_errors import USAGE_ERROR, UsageError, exit_with


@pytest.mark.parametrize("kind", ["poisson", "burst"])
def test_generated_arrivals_have_the_rate_asked_for(kind: str) -> None:
    times = arrivals(kind, 100, 60, seed=1)
    assert len(times) == pytest.approx(6000, rel=0.2)
    assert (times == arrivals(kind, 100, 60, seed=1)).all()


def test_a_staircase_doubles_what_was_asked_for() -> None:
    counts = np.histogram(arrivals("step", 200, 40, seed=1), bins=4, range=(0, 40))[0]
    assert counts / 2000 == pytest.approx([0.5, 1, 1.5, 2], rel=0.1)


def test_a_trace_keeps_its_own_rate_or_takes_another(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["arrival_s", *(f"{each}" for each in range(51))]))
    assert len(arrivals(str(path), None, 20, seed=1)) == pytest.approx(20, abs=1)
    assert len(arrivals(str(path), 10, 20, seed=1)) == pytest.approx(200, rel=0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [("when\n1\n2\n", "got first line"), ("arrival_s\n1\nx\n", "'x'"), ("arrival_s\n1\nnan\n", "2 of them")],
)
def test_a_broken_trace_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "trace.csv").write_text(text)
    with pytest.raises(UsageError, match=message.removeprefix("got ")) as raised:
        arrivals(str(tmp_path / "trace.csv"), None, 5, seed=1)
    assert "\n" not in str(raised.value)
    assert "trace.csv: arrivals; got" in str(raised.value)


def test_a_trace_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="arrivals; got nowhere; expected poisson, step, burst, or a CSV"):
        arrivals("nowhere", None, 5, seed=1)
    with pytest.raises(UsageError, match=r"arrivals; got none in 0\.001 s"):
        arrivals("poisson", 1e-6, 0.001, seed=1)


def test_a_command_that_cannot_work_ends_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        exit_with(lambda: main(["--url", "http://127.0.0.1:1"]))
    assert ended.value.code == USAGE_ERROR
    assert capsys.readouterr().err.count("\n") == 1

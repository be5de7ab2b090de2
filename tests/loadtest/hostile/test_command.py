"""The command that measures hostile messages: it passes against this server, and tells what holds one up."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadtest.hostile import __main__ as command
from loadtest.hostile.http2 import FRAME_BYTES, SETTINGS, Exchange, frame, message, opening
from loadtest.hostile.loop_delay import LoopProbe
from loadtest.hostile.messages.rpc import number, part
from loadtest.hostile.table import MessageContext, all_messages
from loadtest.process import ROOT, Process

QUICK = ("*2,756 names*", "*100,000 empty inputs", "*two messages of empty inputs")
FAKE = ("--family", "adatape_fake", "--tries", "1", "--", "--backend", "fake")


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["hostile", *arguments])
    return command.main()


def test_a_few_pass_and_are_reported(monkeypatch, capsys, tmp_path):
    report = tmp_path / "results" / "hostile.md"
    assert run(monkeypatch, "--only", *QUICK, "--report", str(report), *FAKE) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert "hostile: PASS: 6 of 6 below 50 ms, the longest" in out
    text = report.read_text()
    assert text.count("| stranger |") == text.count("| admin |") == 3
    assert "| gRPC ModelInfer | 100,000 empty inputs |" in text
    assert "at commit " in text


def test_one_that_holds_too_long_fails(monkeypatch, capsys):
    monkeypatch.setattr(command, "MAX_DELAY_MS", 0.0)
    assert run(monkeypatch, "--only", QUICK[0], *FAKE) == 1
    assert "hostile: FAIL: 0 of 2 below 0 ms" in capsys.readouterr().out


def test_sending_nothing_is_no_pass(monkeypatch):
    with pytest.raises(SystemExit, match="--only; got no such message; expected a message or a pattern"):
        run(monkeypatch, "--only", "no such message")


def test_every_row_can_be_made_for_strangers_and_for_admins():
    rows = all_messages()
    assert len({(row.surface, row.name) for row in rows}) == len(rows)
    for row in rows[:: len(rows) // 10]:
        assert row.make(MessageContext("a")).num_bytes <= row.make(MessageContext("a", "adk_1")).num_bytes


@pytest.mark.parametrize("busy_s", [0.0, 0.3])
def test_processor_time_between_two_beats_is_measured(busy_s):
    with busy_server(busy_s) as (address, pid), LoopProbe(address, pid) as probe:
        time.sleep(0.5)
    assert (probe.delay.ms > 200) == (busy_s > 0)


@contextmanager
def busy_server(busy_s: float) -> Iterator[tuple[tuple[str, int], int]]:
    """Give a server that is busy for so long, once, between two answers, and its process."""
    with Process([sys.executable, "-c", _SERVER, str(busy_s)]) as running:
        yield ("127.0.0.1", int(running.wait_for_log(""))), running.process.pid


_SERVER = """
import socket, sys, time
place = socket.create_server(("127.0.0.1", 0))
print(place.getsockname()[1], flush=True)
connection = place.accept()[0]
count = 0
while connection.recv(4096):
    count += 1
    end_s = time.process_time() + float(sys.argv[1]) * (count == 5)
    while time.process_time() < end_s:
        pass
    connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    time.sleep(0.001)
"""


def test_numbers_and_parts_are_those_of_protocol_buffers():
    assert number(300) == b"\xac\x02"
    assert part(1, b"ab") == b"\x0a\x02ab"
    assert message(b"ab", flag=1) == b"\x01\x00\x00\x00\x02ab"


def test_a_large_head_comes_in_several_frames():
    data = opening("/a/b", 1, ("x", "y" * 2 * FRAME_BYTES))
    kinds, at = [], 0
    while at < len(data):
        kinds.append((data[at + 3], data[at + 4]))
        at += 9 + int.from_bytes(data[at : at + 3])
    assert kinds == [(1, 0), (9, 0), (9, 4)]
    assert frame(SETTINGS, 0, 0) == bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])


def test_a_body_comes_in_frames_of_its_step():
    pieces = list(Exchange(b"", b"x" * 100, step=24)._pieces())
    assert pieces[0][0] == 100
    assert pieces[-1][1].count(b"x" * 24) == 4

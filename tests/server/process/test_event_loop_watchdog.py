"""What blocks the event loop is logged; what only takes the processor from every thread is not."""

import asyncio
import logging
import os
import threading
import time
from contextlib import contextmanager

import pytest

from server.metrics import Metrics
from server.process import event_loop_watchdog as module
from server.process.event_loop_watchdog import BLOCKED_TICKS, GIVEN_UP_TICKS, LOOP, EventLoopWatchdog

TICK_S = 0.02


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch):
    monkeypatch.setattr(module, "TICK_S", TICK_S)


@pytest.fixture
def exits(monkeypatch) -> list[int]:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    return statuses


@contextmanager
def beating(*, is_expendable: bool = False):
    metrics = Metrics()
    watchdog = EventLoopWatchdog(metrics, is_expendable=is_expendable)
    watchdog.start()
    yield metrics
    watchdog.stop()


def num_recoveries(metrics: Metrics) -> float:
    text = metrics.snapshot().render("")[0].decode()
    line = next(
        each for each in text.splitlines() if each.startswith(f'adatape_recovery_seconds_count{{fault="{LOOP}"}}')
    )
    return float(line.split()[-1])


async def test_a_loop_that_beats_is_left_alone(caplog, exits):
    with beating(is_expendable=True) as metrics:
        await asyncio.sleep(2 * GIVEN_UP_TICKS * TICK_S)
    assert num_recoveries(metrics) == 0
    assert exits == []
    assert caplog.records == []


async def test_what_blocks_the_loop_is_told_and_how_long_it_did(caplog, exits):
    with caplog.at_level(logging.INFO), beating() as metrics:
        time.sleep(2 * GIVEN_UP_TICKS * TICK_S)  # noqa: ASYNC251 - it is to block
        await asyncio.sleep(2 * TICK_S)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["event_loop_blocked", "engine_recovered"]
    assert "test_what_blocks_the_loop_is_told_and_how_long_it_did test_event_loop_watchdog.py" in caplog.text
    assert num_recoveries(metrics) == 1
    assert exits == []


async def test_an_expendable_process_ends_where_its_loop_is_blocked_for_good(exits):
    with beating(is_expendable=True):
        time.sleep(2 * GIVEN_UP_TICKS * TICK_S)  # noqa: ASYNC251
    assert exits == [os.EX_SOFTWARE]


async def test_it_ends_though_it_is_the_log_that_blocks(monkeypatch, exits):
    is_over = threading.Event()
    monkeypatch.setattr(module._log, "error", lambda *_: is_over.wait(10))
    with beating(is_expendable=True):
        time.sleep(2 * GIVEN_UP_TICKS * TICK_S)  # noqa: ASYNC251
    is_over.set()
    assert exits == [os.EX_SOFTWARE]


async def test_a_pause_of_the_whole_process_is_nobodys_fault(caplog, exits):
    watchdog = EventLoopWatchdog(Metrics(), is_expendable=True)
    watchdog._thread = threading.Thread()
    watchdog.start()
    for _ in range(2 * GIVEN_UP_TICKS):
        time.sleep(BLOCKED_TICKS * TICK_S)  # noqa: ASYNC251 - neither the thread nor the loop gets a turn
        watchdog._tick()
        await asyncio.sleep(2 * TICK_S)
    watchdog.stop()
    assert exits == []
    assert caplog.records == []

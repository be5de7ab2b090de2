"""A short campaign with fixed seeds, and proof that a campaign notices what it is there to notice."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from loadtest.process import Footprint, start_server
from tests.fuzz import decoders, raw_http
from tests.fuzz.campaign import DECODERS, SHARES, Campaign, growth, verdict
from tests.fuzz.results import TargetResult

NUM_CASES = 1000


def test_a_short_campaign_passes():
    with start_server("--backend", "fake") as server:
        campaign = Campaign(NUM_CASES, 1, server)
        results = list(campaign.run())
        is_passed, lines = verdict(campaign, results)
    assert is_passed, "\n".join(lines)
    assert [result.name for result in results] == list(SHARES)
    assert lines[-1].startswith("fuzz: PASS: ")


def test_every_mutation_is_a_case_of_its_own():
    cases = list(raw_http.mutations("adatape_fake"))
    assert len(cases) > 5000
    assert len(set(cases)) > 0.9 * len(cases)


@pytest.mark.parametrize("name", DECODERS)
def test_seeds_reach_the_decoder(name: str):
    assert any(_is_taken(decoders.TARGETS[name], data) for data in decoders.seeds(name))


def _is_taken(decoder: Callable[[bytes], None], data: bytes) -> bool:
    try:
        decoder(data)
    except decoders.ServeError:
        return False
    return True


@contextmanager
def answering(reply: bytes | None) -> Iterator[tuple[str, int]]:
    """Give the address of a server that answers its one call with these bytes, or never ends it."""
    release = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                if reply is None:
                    release.wait(30)
                else:
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[:2]
        release.set()
        thread.join()


REFUSAL = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}"
FAILURE = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "outcome", "num_faults"),
    [
        (REFUSAL, "400", 0),
        (FAILURE, "500", 1),
        (REFUSAL + FAILURE, "400 500", 1),
        (b"", "closed", 0),
        (None, "hang", 1),
    ],
)
def test_answers_are_judged(monkeypatch, reply, outcome, num_faults):
    monkeypatch.setattr(raw_http, "HANG_S", 0.3)
    result = TargetResult("http", 1)
    with answering(reply) as address:
        raw_http.send(address, b"GET / HTTP/1.1\r\n\r\n", result)
    assert (dict(result.outcomes), result.num_faults) == ({outcome: 1}, num_faults)


def test_growth_after_warming_up_is_noticed():
    flat = Footprint(50 << 20, 20, 12)
    assert growth([Footprint(1, 1, 1), *[flat] * 5]) == []
    (memory,) = growth([*[flat] * 5, Footprint(90 << 20, 20, 12)])
    assert memory.startswith("memory; got")
    descriptors, threads = growth([*[flat] * 5, Footprint(50 << 20, 40, 40)])
    assert descriptors.startswith("num_descriptors; got 40")
    assert threads.startswith("num_threads; got 40")

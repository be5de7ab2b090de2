"""A server told to stop answers what it has accepted, tells those whose time is up, and says how it goes meanwhile."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from loadtest.chaos.servers import MARK, MARKS
from loadtest.chaos.servers import picture as marked
from loadtest.process import Server, start_server
from tests.e2e.test_classify import picture
from tests.server.oip_grpc.calls import BODY
from tests.server.oip_grpc.calls import request as infer_request

NUM_CLIENTS = 8
STUCK = ("--backend", "fake", "--fake-faults", "hang", "--hang-timeout-s", "60")
"""Work that goes on for as long as a test looks at it."""


def begin(url: httpx.URL, content: bytes) -> socket.socket:
    """Send half of a request; return once the server has accepted it."""
    connection = socket.create_connection((url.host, url.port), timeout=30)
    lines = ["POST /v1/classify HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}", "Expect: 100-continue"]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    connection.sendall(content[: len(content) // 2])
    return connection


def wait_for_metric(running: Server, line: str) -> str:
    """Return what /metrics shows once it holds a line."""
    while line not in (shown := httpx.get(f"{running.url}/metrics").text):
        time.sleep(0.01)
    return shown


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], dict[str, str]]:
    """Return the status, headers and document of the last answer on a connection."""
    with connection.makefile("rb") as stream:
        answer = stream.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), json.loads(body)


def stuck_request() -> pb.ModelInferRequest:
    mark = bytes((*MARK, MARKS["hang"]))
    return infer_request(raw=(mark + BODY[len(mark) :],))


@contextmanager
def busy(running: Server, num_calls: int) -> Iterator[list]:
    """Have calls under way that do not end; give the futures of their answers."""
    with ThreadPoolExecutor(num_calls) as pool:
        ask = lambda: httpx.post(f"{running.url}/v1/classify", content=marked("hang"), timeout=30)  # noqa: E731
        futures = [pool.submit(ask) for _ in range(num_calls)]
        wait_for_metric(running, f"adatape_pending_samples {num_calls}.0")
        yield futures


def test_what_was_accepted_before_the_signal_is_answered():
    content = picture()
    with start_server("--backend", "fake") as running, ExitStack() as stack:
        url = httpx.URL(running.url)
        connections = [stack.enter_context(begin(url, content)) for _ in range(NUM_CLIENTS)]
        running.process.terminate()
        wait_for_metric(running, "adatape_draining 1.0")
        for connection in connections:
            connection.sendall(content[len(content) // 2 :])
        answers = [read_answer(connection) for connection in connections]
        assert [status for status, _, _ in answers] == [200] * NUM_CLIENTS
        assert {headers["connection"] for _, headers, _ in answers} == {"close"}
        assert running.wait_for_end() == 0
    assert "abandoned=0" in running.log
    assert "Traceback" not in running.log


def test_both_ports_answer_while_the_work_is_finished():
    with start_server(*STUCK) as running, busy(running, 1) as (stuck,):
        with grpc.insecure_channel(running.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ServerReady(pb.ServerReadyRequest()).ready
            running.process.terminate()
            metrics = wait_for_metric(running, "adatape_draining 1.0")
            assert "adatape_ready 0.0" in metrics
            assert httpx.get(f"{running.url}/healthz").status_code == 200
            assert httpx.get(f"{running.url}/readyz").status_code == 503
            refused = httpx.post(f"{running.url}/v1/classify", content=picture())
            assert (refused.status_code, refused.headers["connection"]) == (503, "close")
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["x-request-id"]
            assert refused.json()["error"] == "server; got draining; expected ready"
            assert stub.ServerLive(pb.ServerLiveRequest()).live
            assert not stub.ServerReady(pb.ServerReadyRequest()).ready
            with pytest.raises(grpc.RpcError) as failure:
                stub.ModelInfer(stuck_request())
            assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
            assert ("retry-after", "1") in failure.value.trailing_metadata()
            with pytest.raises(grpc.RpcError) as failure:
                stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="adatape_fake"))
            assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
            running.process.send_signal(signal.SIGINT)
        assert stuck.result().status_code == 503
        assert running.wait_for_end() == 0
    assert "abandoned=1" in running.log


def test_work_that_takes_longer_than_it_may_is_told_so_and_counted():
    content = picture()
    with start_server(*STUCK, "--drain-s", "0.3") as running, busy(running, 2) as stuck, ExitStack() as stack:
        half = stack.enter_context(begin(httpx.URL(running.url), content))
        channel = stack.enter_context(grpc.insecure_channel(running.grpc))
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        unary = stub.ModelInfer.future(stuck_request())
        stream = stub.ModelStreamInfer(iter([stuck_request(), stuck_request()]))
        wait_for_metric(running, "adatape_pending_samples 5.0")
        started_s = time.monotonic()
        running.process.terminate()
        answers = [future.result() for future in stuck]
        for answer in answers:
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/json")
            assert answer.headers["x-request-id"]
            assert answer.json()["error"] == "request; got unfinished after 0.3 s; expected to finish in time"
        status, headers, document = read_answer(half)
        assert (status, document) == (503, answers[0].json())
        assert headers["x-request-id"]
        assert unary.code() is grpc.StatusCode.UNAVAILABLE
        assert "unfinished after 0.3 s" in unary.details()
        assert ["unfinished" in response.error_message for response in stream] == [True, True]
        assert running.wait_for_end() == 0
        assert time.monotonic() - started_s < 5
    assert "abandoned=6" in running.log
    assert "Traceback" not in running.log
    assert " ERROR " not in running.log


def test_a_second_interrupt_ends_it_at_once_and_in_good_order():
    with start_server(*STUCK, "--drain-delay-s", "60") as running, busy(running, 1) as (stuck,):
        running.process.send_signal(signal.SIGTERM)
        running.process.send_signal(signal.SIGTERM)
        wait_for_metric(running, "adatape_ready 0.0")
        assert "adatape_draining 0.0" in httpx.get(f"{running.url}/metrics").text
        running.process.send_signal(signal.SIGINT)
        answer = stuck.result()
        assert answer.status_code == 503
        assert "stopped at once" in answer.json()["error"]
        assert running.wait_for_end() == 0
    assert "abandoned=1" in running.log


def test_signals_that_do_not_stop_it_cost_no_request():
    with start_server("--backend", "fake") as running:
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            running.process.send_signal(number)
            assert httpx.post(f"{running.url}/v1/classify", content=picture()).status_code == 200
        running.process.send_signal(signal.SIGQUIT)
        assert running.wait_for_end() == 0
    assert "reloading signal=SIGHUP" in running.log
    assert "abandoned=0" in running.log

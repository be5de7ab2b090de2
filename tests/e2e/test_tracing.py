"""A real server, a real SDK and a tiny collector of OTLP over HTTP."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import pairwise

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

from loadtest.process import ROOT, start_server

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
MODEL = "adatape_fake"


class Collector(ThreadingHTTPServer):
    """Keeps every span that it is sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans = []
        self.resources = []
        self.paths = set()
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self):
        self.shutdown()
        self.thread.join()
        self.server_close()

    def named(self, name):
        return [span for span in self.spans if span.name == name]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.paths.add(self.path)
        for resource in request.resource_spans:
            self.server.resources.append(attributes(resource.resource))
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def attributes(span):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


def picture():
    output = BytesIO()
    Image.new("RGB", (8, 8), (200, 200, 200)).save(output, "PNG")
    return output.getvalue()


def classify(url, body, **headers):
    reply = httpx.post(f"{url}/v1/classify?max_tape=4", content=body, headers=headers, timeout=30).raise_for_status()
    return reply.headers["X-Request-Id"], reply.json()["results"][0]


@pytest.fixture(scope="module")
def traced():
    """Ask a server in several ways, stop it, and return what was asked and what the collector got."""
    collector = Collector()
    try:
        with start_server("--backend", "fake", "--otlp-endpoint", collector.url, "--log-format", "json") as server:
            asked = {"mine": classify(server.url, picture(), traceparent=TRACEPARENT)}
            asked["alone"] = classify(server.url, picture(), **{"x-request-id": "my-own-id"})
            with pytest.raises(httpx.HTTPStatusError) as refused:
                classify(server.url, b"no image", traceparent=TRACEPARENT)
            asked["refused"] = refused.value.response.headers["X-Request-Id"]
            asked["grpc"] = infer(server)
            headers = {"Accept": "application/openmetrics-text"}
            asked["metrics"] = httpx.get(f"{server.url}/metrics", headers=headers, timeout=30).text
        asked["log"] = server.log
        yield asked, collector
    finally:
        collector.stop()


def infer(server):
    """Ask over gRPC, as part of the trace; return the id that comes with the answer."""
    with grpc.insecure_channel(server.grpc) as channel:
        message = service_pb2.ModelInferRequest(
            model_name=MODEL,
            inputs=[service_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[1, 8, 8, 3])],
            raw_input_contents=[bytes(192)],
        )
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        _, call = stub.ModelInfer.with_call(message, metadata=(("traceparent", TRACEPARENT),), timeout=30)
        return dict(call.trailing_metadata())["x-request-id"]


def root_of(collector, request_id):
    (root,) = [span for span in collector.spans if attributes(span).get("adatape.request_id") == request_id]
    return root


def test_the_callers_trace_is_continued(traced):
    asked, collector = traced
    root = root_of(collector, asked["mine"][0])
    assert root.trace_id.hex() == TRACE_ID
    assert root.parent_span_id.hex() == PARENT_ID
    assert root.kind == root.SPAN_KIND_SERVER


def test_a_call_without_a_trace_begins_one_and_keeps_its_id(traced):
    asked, collector = traced
    assert asked["alone"][0] == "my-own-id"
    root = root_of(collector, "my-own-id")
    assert root.parent_span_id == b""
    assert root.trace_id.hex() != TRACE_ID


def test_stages_follow_each_other_inside_the_request(traced):
    asked, collector = traced
    root = root_of(collector, asked["alone"][0])
    inside = [span for span in collector.spans if span.parent_span_id == root.span_id]
    inside.sort(key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in inside] == ["decode", "queue", "read", "queue", "trunk"]
    for earlier, later in pairwise(inside):
        assert earlier.end_time_unix_nano <= later.start_time_unix_nano + 1000
    assert root.start_time_unix_nano <= inside[0].start_time_unix_nano
    assert inside[-1].end_time_unix_nano <= root.end_time_unix_nano


def test_tape_and_flops_are_those_of_the_receipt(traced):
    asked, collector = traced
    request_id, result = asked["mine"]
    root = root_of(collector, request_id)
    (trunk,) = [span for span in collector.named("trunk") if span.parent_span_id == root.span_id]
    seen, receipt = attributes(trunk), result["receipt"]
    assert seen["adatape.tape_length"] == receipt["tape_length"] == 4
    assert seen["adatape.tape_length_wanted"] == receipt["tape_length_wanted"]
    assert seen["adatape.bucket"] == receipt["bucket"]
    assert seen["adatape.useful_flops"] == receipt["useful_flops"]
    assert seen["adatape.executed_flops"] == receipt["executed_flops"]


def test_a_refusal_is_a_span_with_an_error(traced):
    asked, collector = traced
    root = root_of(collector, asked["refused"])
    assert root.trace_id.hex() == TRACE_ID
    assert attributes(root)["adatape.outcome"] == "not_an_image"
    assert root.status.code == root.status.STATUS_CODE_ERROR


def test_grpc_calls_are_traced_and_answered_with_their_id(traced):
    asked, collector = traced
    root = root_of(collector, asked["grpc"])
    assert root.trace_id.hex() == TRACE_ID
    assert attributes(root)["adatape.protocol"] == "oip_grpc"


def test_the_collector_learns_who_sends(traced):
    _, collector = traced
    assert collector.paths == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "adatape-serve"


def test_exemplars_name_the_trace(traced):
    asked, _ = traced
    assert f'trace_id="{TRACE_ID}"' in asked["metrics"]


def test_every_line_of_the_log_is_json(traced):
    asked, _ = traced
    lines = [json.loads(line) for line in asked["log"].splitlines()]
    assert {"engine_ready", "serving", "engine_stopped"} <= {line.get("event") for line in lines}


def test_no_sdk_and_no_exporter_is_imported_where_traces_are_off():
    """FastAPI itself imports the API, which does nothing by itself."""
    heavy = "name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter', 'requests'))"
    code = f"import sys, server.__main__; print([name for name in sys.modules if {heavy}])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

import json
import logging
import sys

import pytest

from server.process.logs import JsonFormatter, set_up_logs
from server.settings import Settings


def rendered(template, *values, exc_info=None):
    record = logging.LogRecord("adatape.test", logging.WARNING, __file__, 1, template, values, exc_info)
    return json.loads(JsonFormatter().format(record))


def test_a_line_of_ours_becomes_fields():
    line = rendered("cap_moved model=%s to=%d share=%.2f reason=%r dry_run=%s", "m", 4, 0.123, "it's late", True)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "adatape.test",
        "event": "cap_moved",
        "model": "m",
        "to": 4,
        "share": 0.123,
        "reason": "it's late",
        "dry_run": True,
    }


def test_what_is_always_the_same_is_a_field_too():
    line = rendered("batch_halved model=%s batch=%d reason=memory", "m", 8)
    assert (line["event"], line["model"], line["batch"], line["reason"]) == ("batch_halved", "m", 8, "memory")


def test_what_stands_inside_other_text_stays_there():
    assert rendered("serving url=%s docs=%s/docs", "http://h", "http://h")["docs"] == "http://h/docs"


@pytest.mark.parametrize(
    ("template", "values", "message"),
    [
        ("Started server process [%d]", (7,), "Started server process [7]"),
        ("event level=%s", ("x",), "event level=x"),
        ("100% sure", (), "100% sure"),
    ],
)
def test_other_lines_are_messages(template, values, message):
    line = rendered(template, *values)
    assert line["message"] == message
    assert "event" not in line


def test_an_exception_keeps_its_traceback():
    try:
        raise ValueError("broken")
    except ValueError:
        line = rendered("execution_failed model=%s", "m", exc_info=sys.exc_info())
    assert line["model"] == "m"
    assert "ValueError: broken" in line["exception"]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "\ud800", b"\xff", None])
def test_whatever_is_logged_the_line_is_json(value):
    assert "field" in rendered("event field=%s", value)


@pytest.fixture
def set_up(monkeypatch):
    """Set the log up as a start does, and have it as it was after this test."""
    root, ours = logging.getLogger(), logging.getLogger("adatape")
    levels = root.level, ours.level

    def set_up(**settings):
        monkeypatch.setattr(root, "handlers", [])
        set_up_logs(Settings(**settings))

    yield set_up
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "library", ["PIL.TiffImagePlugin", "asyncio", "redis", "grpc._cython.cygrpc", "urllib3.connectionpool", "adatapes"]
)
def test_libraries_are_not_heard_below_warning_whatever_their_loggers_say(set_up, capsys, library, form):
    set_up(log_level="debug", log_format=form)
    logger = logging.getLogger(library)
    logger.setLevel(logging.DEBUG)
    logger.debug("tag: GPSLatitude (2) - value: %s", "48 8 11")
    logger.info("GET /?key=%s", "48 8 11")
    logging.getLogger("adatape.engine").debug("batch_done model=%s", "m")
    logger.warning("it breaks")
    logger.setLevel(logging.NOTSET)
    said = capsys.readouterr().err
    assert "48 8 11" not in said
    assert "batch_done" in said
    assert "it breaks" in said


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_holds_a_secret(set_up, capsys, form):
    set_up(log_format=form)
    log = logging.getLogger("adatape.tenancy")
    log.error("quota_store_failed reason=%r", "redis://:hunter2@host is gone")
    log.error("unexpected at=redis:/:hunter2@host")
    try:
        raise ValueError("rediss://user:hunter2@host")
    except ValueError:
        log.exception("unexpected_failure request=%s", "1")
    logging.getLogger("library").warning("cannot reach https://host/v1?api_key=%s", "hunter2")
    said = capsys.readouterr().err
    assert "hunter2" not in said
    assert said.count("***") == 5  # the traceback quotes its line as well
    if form == "json":
        assert all(json.loads(line) for line in said.splitlines())

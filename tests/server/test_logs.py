import json
import logging
import sys

import pytest

from server.logs import JsonFormatter


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

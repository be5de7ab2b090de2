"""How the log looks: lines for people, or one JSON object a line for machines. Neither holds a payload.

A call such as `_log.info("cap_moved model=%s to=%d", name, cap)` becomes
`{"time": "...", "level": "info", "logger": "adatape.controller", "event": "cap_moved", "model": "...", "to": 4}`.
"""

import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import orjson

from server.settings import Settings

_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_FIELD = re.compile(r"(\w+)=(\S+)")
_PLACEHOLDER = re.compile(r"%[-+#.\d]*[a-zA-Z]")
_OWN = ("time", "level", "logger", "event", "message", "exception")


def set_up_logs(settings: Settings) -> None:
    """Send every logger's lines to standard error, at the level and in the format that the settings name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


class JsonFormatter(logging.Formatter):
    """Renders a line as one JSON object; what our own lines name as `key=%s` becomes a field of that name."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **_read_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode("utf-8")


def _read_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return event and fields of a line of ours, or the message of anybody else's."""
    template, values = str(record.msg), record.args
    fields = _FIELD.findall(template)
    event = template.split(" ", 1)[0]
    num_open = sum(_PLACEHOLDER.search(form) is not None for _, form in fields)
    is_ours = isinstance(values, tuple) and num_open == len(values) == len(_PLACEHOLDER.findall(template))
    if not is_ours or not event.isidentifier() or {name for name, _ in fields} & set(_OWN):
        return {"message": _printable(record.getMessage())}
    assert isinstance(values, tuple)
    rest = iter(values)
    return {"event": event} | {name: _to_plain(form, rest) for name, form in fields}


def _to_plain(form: str, rest: Iterator[object]) -> object:
    """Return what JSON has for a field: a number as it is, infinity and what stands inside other text as text."""
    if _PLACEHOLDER.search(form) is None:
        return form
    value = next(rest)
    if _PLACEHOLDER.fullmatch(form) is None:
        return _printable(form % value)
    if isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
        return value
    return _printable(str(value))


def _printable(text: str) -> str:
    """Drop lone surrogates, which UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode("utf-8")

"""The format of the log: lines for people, or one JSON object a line for machines. Neither has payloads or secrets.

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

from server.metrics.redaction import redact
from server.settings import Settings

_OURS = "adatape"
_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_FIELD = re.compile(r"(\w+)=(\S+)")
_PLACEHOLDER = re.compile(r"%[-+#.\d]*[a-zA-Z]")
_OWN = ("time", "level", "logger", "event", "message", "exception")


def set_up_logs(settings: Settings) -> None:
    """Send the log to standard error, in the format and with the level of the settings.

    Libraries log warnings and above only: their lower levels may quote their input, such as images and addresses.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter(_TEXT))
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or _is_ours(record))
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler])
    logging.getLogger(_OURS).setLevel(level)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


class TextFormatter(logging.Formatter):
    """Formats a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """Formats a line as one JSON object; `key=%s` in our own lines becomes a field named `key`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **_read_fields(record),
        }
        if record.exc_info:
            line["exception"] = _printable(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode("utf-8")


def _read_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the event and fields of one of our own lines, or the message of a library's."""
    template, values = str(record.msg), record.args
    fields = _FIELD.findall(template)
    event = template.split(" ", 1)[0]
    num_open = sum(_PLACEHOLDER.search(form) is not None for _, form in fields)
    is_plain = isinstance(values, tuple) and num_open == len(values) == len(_PLACEHOLDER.findall(template))
    if not (is_plain and _is_ours(record)) or not event.isidentifier() or {name for name, _ in fields} & set(_OWN):
        return {"message": _printable(record.getMessage())}
    assert isinstance(values, tuple)
    rest = iter(values)
    return {"event": event} | {name: _to_plain(form, rest) for name, form in fields}


def _to_plain(form: str, rest: Iterator[object]) -> object:
    """Return the JSON value of a field: finite numbers stay numbers; all else becomes text."""
    if _PLACEHOLDER.search(form) is None:
        return _printable(form)
    value = next(rest)
    if _PLACEHOLDER.fullmatch(form) is None:
        return _printable(form % value)
    if isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
        return value
    return _printable(str(value))


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == _OURS


def _printable(text: str) -> str:
    """Remove secrets, and lone surrogates, which UTF-8 cannot encode."""
    return redact(text).encode("utf-8", "replace").decode("utf-8")

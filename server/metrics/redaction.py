"""Removes secrets from text: from every line of the log, and from every error about a setting.

Addresses may hold passwords, and the errors of libraries quote addresses; only this module removes them.
"""

import re

HIDDEN = "***"

_TOKEN = re.compile(r"\S+")
_NAMES = r"(?:passw(?:or)?d|passphrase|pwd|secret|token|api[-_]?key|credential|authorization)"
_VALUE = r"[^\s&\"',;]+"
_NAMED = re.compile(rf"(?i)({_NAMES}[\w-]{{0,32}}[\"']?\s{{0,2}}[=:]\s{{0,2}}[\"']?(?:bearer |basic )?){_VALUE}")
_IN_QUERY = re.compile(rf"(?i)([?&][\w.-]{{0,32}}(?:key|auth|sig|pass|user)[\w.-]{{0,32}}=){_VALUE}")
_OPTION = re.compile(rf"(?i)((?<![\w-])--[\w-]{{0,32}}?{_NAMES}[\w-]{{0,32}}\s+){_VALUE}")
_SCHEME = re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{8,}")
_OWN_KEY = re.compile(r"\badk_[\w-]+")
_PATTERNS = (
    (_NAMED, rf"\1{HIDDEN}"),
    (_IN_QUERY, rf"\1{HIDDEN}"),
    (_OPTION, rf"\1{HIDDEN}"),
    (_SCHEME, rf"\1\2{HIDDEN}"),
    (_OWN_KEY, f"adk_{HIDDEN}"),
)


def redact(text: str) -> str:
    """Return a text with `***` for what stands before the @ of an address, and for values called secret.

    Whatever its shape, an address loses all between its first colon and its last @: a password may hold either.
    """
    if "@" in text:
        text = _TOKEN.sub(_without_user, text)
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def _without_user(match: re.Match[str]) -> str:
    token = match.group()
    colon, at = token.find(":"), token.rfind("@")
    return f"{token[: colon + 1]}{HIDDEN}{token[at:]}" if 0 <= colon < at else token

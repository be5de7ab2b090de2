"""API keys: their form, the hash that the server keeps, and the owner of each.

A key is `adk_<id>_<secret>`. The id is public and names the key where it is listed or logged; the secret has 256 random
bits, so a plain SHA-256 is as hard to turn back as the key is to guess, and cheap enough to compute for each call.
What is kept is a *hash line*: `<id>:<SHA-256 of the whole key, hex>`, and `:admin` behind it for an admin's key.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

_PREFIX = "adk"
_ID_BYTES = 4
_SECRET_BYTES = 32
_KEY = re.compile(rf"{_PREFIX}_([0-9a-f]{{8}})_[\w-]{{43}}", re.ASCII)
_LINE = re.compile(r"([0-9a-f]{8}):([0-9a-f]{64})(:admin)?")
LINE_FORM = (
    "<id>:<SHA-256 of the key, 64 hex digits> with :admin behind it for an admin's, as python -m server.tenancy makes"
)
_NOBODY = bytes(32)


@dataclass(frozen=True, slots=True)
class KeyHash:
    """What the server keeps of a key."""

    id: str
    digest: bytes
    is_admin: bool = False

    @property
    def line(self) -> str:
        return f"{self.id}:{self.digest.hex()}{':admin' if self.is_admin else ''}"

    @classmethod
    def of(cls, key: str, *, is_admin: bool = False) -> "KeyHash":
        """Return what to keep of a key.

        Raises: ValueError for anything else; the message does not repeat it.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise ValueError("API key; got something else; expected adk_<id>_<secret>")
        return cls(match[1], _digest(key), is_admin)

    @classmethod
    def parse(cls, line: str) -> "KeyHash":
        """Read a hash line.

        Raises: ValueError for anything else; the message does not repeat it, for it may be a key.
        """
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"hash line; got something else; expected {LINE_FORM}")
        return cls(match[1], bytes.fromhex(match[2]), match[3] is not None)


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Whose a key is, and whether it is an admin's."""

    tenant: str
    is_admin: bool
    key_id: str


class KeyRing:
    """All keys that the server knows."""

    def __init__(self, keys: Iterable[tuple[str, KeyHash]] = ()) -> None:
        """Take pairs of a tenant and a key hash.

        Raises: ValueError if two keys share an id.
        """
        self._keys: dict[str, tuple[bytes, KeyOwner]] = {}
        for tenant, key in keys:
            if key.id in self._keys:
                raise ValueError(f"key ids; got {key.id} twice; expected each once: make another key")
            self._keys[key.id] = (key.digest, KeyOwner(tenant, key.is_admin, key.id))

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def owners(self) -> list[KeyOwner]:
        return [owner for _, owner in self._keys.values()]

    def find(self, key: str) -> KeyOwner | None:
        """Return the owner of a key, None if it is not known.

        How long this takes tells at most whether the id is known, which is no secret: digests are compared in constant
        time, and an unknown id costs the same hash and comparison.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            return None
        digest, owner = self._keys.get(match[1], (_NOBODY, None))
        return owner if hmac.compare_digest(_digest(key), digest) else None


def make_key(*, is_admin: bool = False) -> tuple[str, KeyHash]:
    """Return a new key, and what to keep of it."""
    key = f"{_PREFIX}_{secrets.token_hex(_ID_BYTES)}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return key, KeyHash.of(key, is_admin=is_admin)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("ascii")).digest()

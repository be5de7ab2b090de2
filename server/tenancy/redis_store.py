"""The store that several servers share: one Redis, and one script that applies a batch as a whole."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis

from server.errors import Unavailable
from server.tenancy.store import COUNTS, Timestamp, Usage, UsageBatch

_PREFIX = "{adatape}:"
"""The braces put all keys into one slot of a cluster, as one script needs."""
_WAIT_S = 2.0
_WRITER_S = 7 * 86_400

# Redis has the clock that its servers share; where it steps back a quota refills from then on, and where it steps
# forward it refills once, to its burst at most. Levels travel as text, for Lua would cut them to whole numbers.
_SYNC = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local last = tonumber(redis.call('GET', KEYS[2]) or '-1')
local is_new = last < tonumber(ARGV[1])
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
local levels = {}
local at = 4
for _ = 1, tonumber(ARGV[3]) do
    local tenant, flops, rate, burst = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local ago = tonumber(ARGV[at + 4])
    at = at + 5
    local kept = redis.call('HMGET', KEYS[1], tenant .. '|level', tenant .. '|at_s')
    local level, since = tonumber(kept[1] or burst), tonumber(kept[2] or now)
    if is_new then
        local seconds = math.max(0, now - since)
        local after = math.min(seconds, ago)
        level = math.min(burst, level + rate * (seconds - after))
        level = math.min(burst, level - flops + rate * after)
        local text, stamp = string.format('%.17g', level), string.format('%.6f', now)
        redis.call('HSET', KEYS[1], tenant .. '|level', text, tenant .. '|at_s', stamp)
    end
    levels[#levels + 1] = string.format('%.17g', level)
end
if is_new then
    while ARGV[at] do
        redis.call('HINCRBY', KEYS[3], ARGV[at], ARGV[at + 1])
        at = at + 2
    end
end
return levels
"""


class RedisStore:
    """Usage and quotas in Redis. Set its own persistence (AOF) for them to survive its restarts."""

    def __init__(self, url: str) -> None:
        """Connect.

        Raises: Unavailable.
        """
        self._place = "an address that cannot be read"
        with self._errors_as_unavailable():
            self._redis: Any = redis.Redis.from_url(
                url, socket_timeout=_WAIT_S, socket_connect_timeout=_WAIT_S, decode_responses=True
            )
            parts = urlsplit(url)
            self._place = f"{parts.hostname}:{parts.port or 6379}"
            """Without the password that the address may hold."""
            self._sync = self._redis.register_script(_SYNC)
            self._redis.ping()

    def sync(self, batch: UsageBatch, now: Timestamp) -> dict[str, float]:  # noqa: ARG002 - Redis has the clock of all
        spends = [
            part for spend in batch.spends for part in (spend.tenant, spend.flops, spend.rate, spend.burst, spend.ago_s)
        ]
        usages = [
            part
            for usage in batch.usages
            for name in COUNTS
            for part in (f"{usage.tenant}|{usage.day}|{name}|{usage.model}", getattr(usage, name))
        ]
        keys = [_PREFIX + "quotas", f"{_PREFIX}writer:{batch.writer}", _PREFIX + "usage"]
        with self._errors_as_unavailable():
            levels = self._sync(keys, [batch.number, _WRITER_S, len(batch.spends), *spends, *usages])
        return {spend.tenant: float(level) for spend, level in zip(batch.spends, levels, strict=True)}

    def usage(self, tenants: Sequence[str] | None, since: str) -> list[Usage]:
        counts: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
        with self._errors_as_unavailable():
            for field, value in self._redis.hscan_iter(_PREFIX + "usage", count=1000):
                tenant, day, name, model = field.split("|", 3)
                if day >= since and (tenants is None or tenant in tenants):
                    counts[tenant, model, day][name] = int(value)
        return [Usage(*place, *(values.get(name, 0) for name in COUNTS)) for place, values in sorted(counts.items())]

    def close(self) -> None:
        self._redis.close()

    @contextmanager
    def _errors_as_unavailable(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, ValueError) as error:
            got = f"{self._place}: {type(error).__name__}"
            # What went wrong may quote the address, and in it a password.
            raise Unavailable("quota store", got, "a Redis that answers: see quota_store") from None

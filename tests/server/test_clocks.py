"""Intervals are taken on the monotonic clock: a step of the wall clock changes nothing but what shows a date."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
WALL = re.compile(
    r"\btime\.(time|time_ns|localtime|gmtime|ctime|strftime)\b|from time import|CLOCK_REALTIME"
    r"|\b(utcnow|today|fromtimestamp)\(|\bdatetime\.now\("
)
SHOWS_A_DATE = {
    "server/metrics/statistics.py": "the protocol's last_inference",
    "server/metrics/tracing.py": "where spans lie, for a collector",
    "server/process/logs.py": "when a line was logged",
    "server/tenancy/tenancy.py": "the day of usage; quotas across a start of the machine",
    "server/tenancy/store_sync.py": "the same: it hands the store both clocks",
}


def test_only_what_shows_a_date_reads_the_wall_clock():
    readers = {
        str(path.relative_to(ROOT)): path.read_text()
        for path in sorted((ROOT / "server").rglob("*.py"))
        if WALL.search(path.read_text())
    }
    assert set(readers) == set(SHOWS_A_DATE)

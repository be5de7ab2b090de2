"""What the system grants this process, as either version of control groups writes it down."""

import os

import pytest

from server.host.cgroups import memory_bytes, num_cpus
from server.settings import MIB, Settings, bodies_share

GIB = 1024 * MIB
V2 = "0::/pods/pod1/server\n"
V1 = "5:memory:/pods/pod1/server\n4:cpu,cpuacct:/pods/pod1/server\n1:name=systemd:/init.scope\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Write a machine of 64 GiB and 16 processors with these control groups; return its root."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)

    def write(groups, **files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        (tmp_path / "proc/meminfo").write_text(f"MemTotal:       {64 * MIB} kB\nMemFree: 1 kB\n")
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (V2, {}, 64 * GIB),
        ("", {}, 64 * GIB),
        ("rubbish\n\n:::\n0::", {}, 64 * GIB),
        (V2, {"pods/pod1/server/memory.max": "max"}, 64 * GIB),
        (V2, {"pods/pod1/server/memory.max": str(GIB)}, GIB),
        (V2, {"pods/pod1/server/memory.max": "max", "pods/pod1/memory.max": str(2 * GIB)}, 2 * GIB),
        (V2, {"pods/pod1/server/memory.max": str(3 * GIB), "pods/memory.max": str(2 * GIB)}, 2 * GIB),
        (V2, {"memory.max": str(GIB)}, GIB),
        ("0::/\n", {"memory.max": str(GIB)}, GIB),
        ("0::/../../pod1\n", {"memory.max": str(GIB)}, GIB),
        (V2, {"pods/pod1/server/memory.max": str(999 * GIB)}, 64 * GIB),
        (V2, {"pods/pod1/server/memory.max": "0"}, 64 * GIB),
        (V2, {"pods/pod1/server/memory.max": "-1 x"}, 64 * GIB),
        (V1, {"memory/pods/pod1/server/memory.limit_in_bytes": str(GIB)}, GIB),
        (V1, {"memory/pods/memory.limit_in_bytes": str(GIB)}, GIB),
        (V1, {"memory/memory.limit_in_bytes": str(GIB)}, GIB),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, 64 * GIB),
        (V1 + "0::/\n", {"unified/memory.max": "max", "memory/memory.limit_in_bytes": str(GIB)}, GIB),
    ],
)
def test_memory_is_the_smallest_limit_on_the_way_up(machine, groups, files, expected):
    assert memory_bytes(machine(groups, **files)) == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (V2, {}, 16),
        (V2, {"pods/pod1/server/cpu.max": "max 100000"}, 16),
        (V2, {"pods/pod1/server/cpu.max": "200000 100000"}, 2),
        (V2, {"pods/pod1/server/cpu.max": "150000 100000"}, 2),
        (V2, {"pods/pod1/server/cpu.max": "10000 100000"}, 1),
        (V2, {"pods/pod1/server/cpu.max": "3200000 100000"}, 16),
        (V2, {"pods/pod1/server/cpu.max": "400000 100000", "pods/cpu.max": "300000 100000"}, 3),
        (V2, {"pods/pod1/server/cpu.max": "200000"}, 16),
        (V2, {"pods/pod1/server/cpu.max": "200000 0"}, 16),
        (V2, {"cpu.max": "500000 100000"}, 5),
        (V1, {"cpu,cpuacct/pods/pod1/server/cpu.cfs_quota_us": "-1"}, 16),
        (
            V1,
            {
                "cpu,cpuacct/pods/pod1/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/pods/pod1/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_processors_are_those_of_affinity_and_quota(machine, groups, files, expected):
    assert num_cpus(machine(groups, **files)) == expected


def test_without_any_files_the_system_itself_is_asked(tmp_path):
    assert memory_bytes(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert num_cpus(tmp_path) == len(os.sched_getaffinity(0))
    assert memory_bytes() > 0
    assert num_cpus() >= 1


def test_settings_follow_what_there_is(monkeypatch):
    monkeypatch.setattr("server.host.cgroups.memory_bytes", lambda: GIB)
    monkeypatch.setattr("server.host.cgroups.num_cpus", lambda: 3)
    assert Settings().max_bodies_bytes == GIB // 4
    assert Settings().num_threads == 3
    assert Settings(intra_op_threads=2, max_bodies_bytes=5 * MIB).num_threads == 2
    assert Settings(max_bodies_bytes=5 * MIB).max_bodies_bytes == 5 * MIB


@pytest.mark.parametrize(
    ("there", "taken"),
    [(64 * GIB, GIB), (3 * GIB, 768 * MIB), (GIB, 256 * MIB), (64 * MIB, 20 * MIB), (8 * MIB, 20 * MIB)],
)
def test_bodies_get_a_quarter_of_the_memory_and_one_of_the_largest_always_has_room(there, taken):
    assert bodies_share(there) == taken

"""The pure parts of commands, and one command whole."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks.adaptive import cap_at_equal_accuracy
from benchmarks.counters import add_up
from benchmarks.inputs import binary_requests, fake_pictures, load_pictures
from benchmarks.memory import parse_private_mib
from benchmarks.policy_load import accuracy_by_cap
from benchmarks.repositories import write_variant
from benchmarks.scheduler import FullQueue
from loadtest.lean_http import render
from loadtest.metrics import parse_metrics
from server.backends.fake import fake_manifest

ROOT = Path(__file__).parents[2]
MANIFEST = fake_manifest()


def test_counters_add_up_and_waste_is_left_out() -> None:
    text = (
        'adatape_flops_total{kind="useful",model="a"} 6e3\nadatape_flops_total{kind="padding",model="a"} 2e3\n'
        'adatape_flops_total{kind="wasted",model="a"} 9e9\nadatape_inferences_total{model="a"} 4.0\n'
        "# HELP adatape_other x\nadatape_pending_samples 3\n"
    )
    counters = add_up(parse_metrics(text))
    assert counters.flops_each == 2000
    assert counters.since(counters).inferences == 0


def test_private_memory_is_the_sum_of_two_lines() -> None:
    assert parse_private_mib("Rss: 9000 kB\nPrivate_Clean:  1024 kB\nPrivate_Dirty:  2048 kB\nSwap: 0 kB\n") == 3


def test_the_cap_of_equal_accuracy_is_the_smallest_near_the_full_tape() -> None:
    assert cap_at_equal_accuracy(MANIFEST) == 16
    points = [
        point.model_copy(update={"accuracy": 0.8 if point.cap >= 4 else 0.1}) for point in MANIFEST.quality.points
    ]
    flat = MANIFEST.model_copy(update={"quality": MANIFEST.quality.model_copy(update={"points": points})})
    assert cap_at_equal_accuracy(flat) == 4


def test_accuracy_between_points_lies_on_the_line() -> None:
    curve = accuracy_by_cap(MANIFEST)
    assert len(curve) == MANIFEST.tape_capacity + 1
    assert curve[10] == pytest.approx((curve[8] + curve[12]) / 2)


def test_pictures_are_all_different_and_the_same_each_time() -> None:
    pytest.importorskip("skimage")
    first, again = (load_pictures(MANIFEST, 20, None).pixels_BHWC for _ in range(2))
    assert first.shape == (20, 8, 8, 3)
    assert (first == again).all()
    assert len({each.tobytes() for each in first}) == 20


def test_pictures_of_a_data_set_keep_their_labels(tmp_path: Path) -> None:
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "set.npz", x_test=images, y_test=np.arange(10))
    pictures = load_pictures(MANIFEST, 5, tmp_path / "set.npz")
    assert pictures.labels_B is not None
    assert pictures.pixels_BHWC[:, 0, 0, 0].tolist() == pictures.labels_B.tolist()


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x_test=np.zeros((2, 4, 4, 3), np.uint8), y_test=np.zeros(2))
    with pytest.raises(SystemExit, match="data; got images"):
        load_pictures(MANIFEST, 2, tmp_path / "set.npz")


def test_requests_carry_every_picture_once() -> None:
    requests = binary_requests("m", fake_pictures(MANIFEST, 20).pixels_BHWC, 8, {"max_tape": 4})
    assert len(requests) == 2
    assert all(request.startswith(render("/v2/models/m/infer", b"")[:30]) for request in requests)
    assert b'"max_tape": 4' in requests[0]


def test_a_variant_has_fewer_buckets_and_stays_coherent(tmp_path: Path) -> None:
    for graph in MANIFEST.graphs():
        for file in graph.files:
            (tmp_path / "a" / file.path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "a" / file.path).touch()
    variant = write_variant(tmp_path / "a", MANIFEST, tmp_path / "b", [0, 16])
    read = type(MANIFEST).model_validate_json((tmp_path / "b" / MANIFEST.family / "1" / "manifest.json").read_text())
    assert read == variant
    assert {entry.bucket for entry in read.latency.entries} == {0, 16}
    with pytest.raises(ValueError, match="buckets; got"):
        write_variant(tmp_path / "a", MANIFEST, tmp_path / "b", [0, 5])


@pytest.mark.parametrize("has_deadlines", [False, True])
def test_a_line_stays_as_long_as_it_is(has_deadlines: bool) -> None:
    queue = FullQueue(MANIFEST, 200, has_deadlines=has_deadlines)
    queue.serve(500)
    assert queue.num_waiting == 200


def test_a_command_prints_writes_and_exits_by_its_aims(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.scheduler", "--quick", "--requests", "2000", "--json"]
    done = subprocess.run([*command, str(tmp_path / "x.json")], cwd=ROOT, capture_output=True, text=True, check=False)
    written = json.loads((tmp_path / "x.json").read_text())
    assert done.returncode == (0 if all(aim["is_met"] for aim in written["aims"]) else 1), done.stderr
    assert done.stdout.splitlines()[-1].startswith(written["aims"][-1]["name"])
    assert len(written["rows"]) == 6


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_command_can_be_imported(path: Path) -> None:
    if path.stem == "gpu":
        pytest.importorskip("onnx")
    import_module(f"benchmarks.{path.stem}")

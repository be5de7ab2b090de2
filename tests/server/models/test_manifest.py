import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from server.backends.fake import BUCKETS, TAPE_CAPACITY, fake_manifest
from server.models.manifest import Flops, Manifest

MANIFEST = fake_manifest()


def changed(**changes):
    return MANIFEST.model_dump(mode="json") | changes


def test_json_round_trip():
    assert Manifest.model_validate_json(MANIFEST.model_dump_json()) == MANIFEST


@given(st.integers(0, TAPE_CAPACITY))
def test_bucket_is_the_smallest_that_holds_the_tape(tape_length):
    bucket = MANIFEST.bucket_for(tape_length)
    assert bucket in BUCKETS
    assert bucket >= tape_length
    assert not any(tape_length <= other < bucket for other in BUCKETS)


@pytest.mark.parametrize("buckets", [[4, 8, 16], [0, 8, 4, 16], [0, 4, 8], [0, 4, 4, 16], [0, 4, 8, 32]])
def test_buckets_must_rise_from_zero_to_the_capacity(buckets):
    with pytest.raises(ValidationError, match="buckets"):
        Manifest.model_validate(changed(buckets=buckets))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"trunks": MANIFEST.model_dump()["trunks"][:2]}, "trunks; got 2 graphs; expected one for each of 4"),
        ({"flops": {"embed": 1, "bank": 1, "read_step": 1, "trunk": [1, 2]}}, "flops.trunk; got 2 entries"),
        ({"surprise": 1}, "surprise"),
        ({"schema_version": 2}, "schema_version"),
        ({"family": "Not A Name"}, "family"),
        ({"labels": []}, "labels"),
    ],
)
def test_incoherent_manifests_are_refused(changes, fault):
    with pytest.raises(ValidationError, match=fault):
        Manifest.model_validate(changed(**changes))


@pytest.mark.parametrize(
    ("stage", "bucket", "fault"),
    [
        ("read", 16, "bucket of stage read; got 16; expected 0"),
        ("embed", 4, "bucket of stage embed; got 4"),
        ("trunk", 5, r"latency.entries; got buckets \[5\]"),
    ],
)
def test_latency_is_of_a_bucket_only_where_there_is_one(stage, bucket, fault):
    entry = {"stage": stage, "bucket": bucket, "batch": 1, "p50_s": 0.001}
    table = MANIFEST.latency.model_dump() | {"entries": [entry]}
    with pytest.raises(ValidationError, match=fault):
        Manifest.model_validate(changed(latency=table))


def test_flops_by_hand():
    flops = Flops(embed=1000, bank=500, read_step=100, trunk=[10, 20, 30, 40])
    assert flops.useful(0, cap=0) == 1010
    assert flops.useful(2, cap=3) == 1000 + 500 + 200 + 30
    assert flops.read_executed(is_reading=False) == 1000
    assert flops.read_executed(is_reading=True) == 1000 + 500 + 300


@given(st.integers(0, TAPE_CAPACITY))
def test_executed_is_never_less_than_useful(tape_length):
    flops = MANIFEST.flops
    cap = tape_length
    executed = flops.read_executed(is_reading=cap > 0) + flops.trunk[MANIFEST.bucket_for(tape_length)]
    assert executed >= flops.useful(tape_length, cap)


def test_every_graph_is_listed():
    assert [graph.name for graph in MANIFEST.graphs()] == [
        "adatape_fake_reader",
        "adatape_fake_trunk",
        *(f"adatape_fake_trunk_t{bucket:02}" for bucket in BUCKETS),
    ]

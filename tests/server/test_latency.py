import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backends.fake import BUCKETS, MAX_BATCH_SIZE, fake_manifest
from server.models.manifest import Latency
from server.scheduler import LatencyModel

MANIFEST = fake_manifest()

places = st.sampled_from([("embed", 0), ("read", 0), *(("trunk", bucket) for bucket in BUCKETS)])
batches = st.integers(1, MAX_BATCH_SIZE)


def test_measured_points_are_predicted_as_measured():
    model = LatencyModel(MANIFEST)
    for entry in MANIFEST.latency.entries:
        assert model.predict_s(entry.stage, entry.bucket, entry.batch) == pytest.approx(entry.p50_s)


def test_between_measured_batches_the_cost_is_linear():
    model = LatencyModel(MANIFEST)  # batch 4 costs 100 + 4 * 60 us, batch 16 costs 100 + 16 * 60
    assert model.predict_s("read", 0, 10) == pytest.approx(700e-6)


def test_beyond_the_last_batch_the_cost_grows_with_the_rows():
    model = LatencyModel(MANIFEST)
    assert model.predict_s("read", 0, 32) == pytest.approx(2 * model.predict_s("read", 0, 16))


def test_below_the_first_batch_the_cost_is_the_firsts():
    table = MANIFEST.latency.model_copy(update={"entries": [Latency(stage="trunk", bucket=4, batch=8, p50_s=0.01)]})
    model = LatencyModel(MANIFEST.model_copy(update={"latency": table}))
    assert model.predict_s("trunk", 4, 2) == 0.01


def test_a_pair_that_was_not_measured_is_estimated_from_its_flops():
    table = MANIFEST.latency.model_copy(update={"entries": [Latency(stage="trunk", bucket=0, batch=2, p50_s=0.004)]})
    model = LatencyModel(MANIFEST.model_copy(update={"latency": table}))
    flops = MANIFEST.flops.trunk
    assert model.predict_s("trunk", 16, 3) == pytest.approx(0.002 * 3 * flops[16] / flops[0])


@given(places, batches, st.floats(0.2, 5.0))
def test_observations_correct_the_prediction_of_their_pair_and_the_overhead_of_all(place, batch, factor):
    model, untouched = LatencyModel(MANIFEST), LatencyModel(MANIFEST)
    actual_s = factor * model.predict_s(*place, batch)
    for _ in range(400):
        model.observe(*place, batch, actual_s)
    assert model.predict_s(*place, batch) == pytest.approx(actual_s, rel=1e-3)
    other = ("trunk", 4) if place != ("trunk", 4) else ("trunk", 8)
    assert model.predict_s(*other, batch) == pytest.approx(untouched.predict_s(*other, batch) + model.overhead_s)


def test_a_quiet_server_teaches_the_overhead_and_says_little_of_full_batches():
    """Single samples take half a millisecond longer than the graphs; so will full batches, not five times as long."""
    model, untouched = LatencyModel(MANIFEST), LatencyModel(MANIFEST)
    for number in range(2000):
        batch = (1, 2, 4, 16)[number % 4]
        model.observe("read", 0, batch, untouched.predict_s("read", 0, batch) + 500e-6)
    assert model.overhead_s == pytest.approx(500e-6, rel=0.05)
    assert model.predict_s("read", 0, 64) == pytest.approx(untouched.predict_s("read", 0, 64) + 500e-6, rel=0.05)


@given(places, st.floats(0, 1), st.integers(1, MAX_BATCH_SIZE))
def test_what_fits_takes_no_longer_and_one_more_would(place, seconds, limit):
    model = LatencyModel(MANIFEST)
    for _ in range(50):
        model.observe(*place, 1, 3 * model.predict_s(*place, 1))
    size = model.fit(*place, seconds, limit)
    assert 0 <= size <= limit
    assert size == 0 or model.predict_s(*place, size) <= seconds * (1 + 1e-9)
    assert size == limit or model.predict_s(*place, size + 1) > seconds * (1 - 1e-9)


def test_one_outlier_changes_little():
    model = LatencyModel(MANIFEST)
    before_s = model.predict_s("read", 0, 4)
    model.observe("read", 0, 4, 3600.0)
    assert model.predict_s("read", 0, 4) < 1.11 * before_s

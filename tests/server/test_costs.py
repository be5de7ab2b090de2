"""What samples cost by cap, how long their tapes are, and how many to run together."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backends.fake import BUCKETS, TAPE_CAPACITY, fake_manifest
from server.models.manifest import CurvePoint
from server.scheduler import Costs, LatencyModel, Stage, TapeMix
from server.scheduler.splits import Splits

MANIFEST = fake_manifest()
LIMIT = 16


def costs_of(manifest=MANIFEST, **options):
    return Costs(manifest, LatencyModel(manifest), LIMIT, **options)


# --- Splits --------------------------------------------------------------------------------------

tables = st.lists(st.floats(0.1, 10), min_size=1, max_size=8).map(sorted)


def cheapest(table, num_rows):
    """Return the cost of the cheapest split, by trying all."""
    if num_rows == 0:
        return 0.0
    sizes = range(1, min(len(table), num_rows) + 1)
    return min(table[size - 1] + cheapest(table, num_rows - size) for size in sizes)


@given(tables, st.integers(1, 10), st.sampled_from([0.0, 0.5, 4.0]))
def test_following_the_first_piece_costs_no_more_than_the_cheapest_split(graphs, num_rows, fixed_s):
    splits, spent, left = Splits(graphs, fixed_s), 0.0, num_rows
    table = [cost + fixed_s for cost in graphs]
    while left:
        size = splits.first(left)
        assert 1 <= size <= min(left, len(table))
        spent, left = spent + table[size - 1], left - size
    assert spent == pytest.approx(cheapest(table, num_rows)) or num_rows >= 2 * len(table)


def test_what_costs_a_fixed_part_runs_together():
    splits = Splits([1 + 0.1 * rows for rows in range(1, 9)])
    assert [splits.first(waiting) for waiting in (1, 5, 8)] == [1, 5, 8]
    assert (splits.best, splits.first(1000)) == (8, 8)


def test_a_step_in_the_table_is_not_climbed_in_vain():
    splits = Splits([1.0, 1.1, 1.2, 1.3, 4.0, 4.1, 4.2, 4.3])
    assert [splits.first(waiting) for waiting in (4, 5, 8)] == [4, 4, 4]
    assert splits.best == 4


def test_the_knee_is_where_samples_begin_to_cost_more():
    splits = Splits([1 + 0.1 * rows for rows in range(1, 17)])  # 0.1625 a sample at 16
    assert splits.knee(16, 0.25) == 10
    assert splits.knee(1, 0.25) == 1


def test_what_executions_cost_beside_their_graphs_speaks_for_larger_ones_and_moves_no_knee():
    graphs = [1 + 0.1 * rows if rows <= 4 else 0.36 * rows for rows in range(1, 9)]  # 0.35 a sample at 4, 0.36 at 8
    plain, fixed = Splits(graphs), Splits(graphs, 0.2)
    assert (plain.best, plain.first(8)) == (4, 4)
    assert (fixed.best, fixed.first(8)) == (8, 8)
    assert plain.knee(8, 0.25) == fixed.knee(8, 0.25)


# --- Mix -----------------------------------------------------------------------------------------


def test_the_mix_starts_from_the_curve():
    mix = TapeMix(MANIFEST)
    for point in MANIFEST.quality.points:
        assert mix.mean_tape(point.cap) == pytest.approx(point.mean_tape_length)


def test_the_mix_follows_what_is_read():
    mix = TapeMix(MANIFEST)
    for _ in range(400):
        mix.observe([2] * 64)
    assert mix.mean_tape(16) == pytest.approx(2, abs=0.1)
    assert mix.mean_tape(1) == pytest.approx(1, abs=0.01)


@given(st.lists(st.floats(0, 16), min_size=1, max_size=6), st.lists(st.integers(0, 99), max_size=50))
def test_law_a_mix_is_a_distribution_whatever_the_curve_and_the_tapes(means, lengths):
    points = [
        CurvePoint(
            cap=cap * 3,
            accuracy=0.5,
            accuracy_low=0.4,
            accuracy_high=0.6,
            mean_tape_length=mean,
            mean_tape_length_wanted=mean,
            mean_flops=1.0,
        )
        for cap, mean in enumerate(means)
    ]
    mix = TapeMix(MANIFEST.model_copy(update={"quality": MANIFEST.quality.model_copy(update={"points": points})}))
    mix.observe(lengths)
    reach = mix.reach()
    assert len(reach) == TAPE_CAPACITY + 1
    assert reach[0] == pytest.approx(1)
    assert all(0 <= later <= earlier + 1e-12 for earlier, later in pairwise(reach))


# --- Costs ---------------------------------------------------------------------------------------


def test_a_smaller_cap_costs_no_more():
    sample_s = costs_of().sample_s
    assert len(sample_s) == TAPE_CAPACITY + 1
    assert sample_s == sorted(sample_s)
    assert sample_s[0] < 0.6 * sample_s[-1]


def test_cap_zero_costs_an_embedding_and_the_smallest_trunk():
    costs = costs_of()
    both_s = sum(costs.predict_s(stage, 0, LIMIT) for stage in (Stage.EMBED, Stage.TRUNK)) / LIMIT
    assert costs.sample_s[0] == pytest.approx(both_s)


def test_costs_follow_the_tapes_that_are_read_and_the_times_they_take():
    costs = costs_of()
    before_s = costs.sample_s[-1]
    for _ in range(200):
        costs.mix.observe([1] * 64)
    costs.refresh()
    shorter_s = costs.sample_s[-1]
    assert shorter_s < before_s
    for _ in range(100):
        for stage, bucket in [(Stage.EMBED, 0), (Stage.READ, 0), *((Stage.TRUNK, bucket) for bucket in BUCKETS)]:
            costs.observe(stage, bucket, LIMIT, 2 * LatencyModel(MANIFEST).predict_s(stage, bucket, LIMIT))
    assert costs.sample_s[-1] == pytest.approx(2 * shorter_s, rel=0.05)


def test_batches_grow_where_executions_are_seen_to_cost_more_beside_their_rows():
    costs = costs_of()
    before = costs.splits(Stage.READ, 0).first(LIMIT)
    costs.latency.overhead_s = 1.0
    costs.refresh()
    assert costs.splits(Stage.READ, 0).first(LIMIT) == LIMIT >= before


def test_executions_are_bounded_in_time_but_one_sample_always_runs():
    costs = costs_of(max_execution_s=0.001)  # 16 samples of bucket 16 take 4.26 ms
    assert costs.predict_s(Stage.TRUNK, 16, costs.splits(Stage.TRUNK, 16).limit) <= 0.001
    assert costs_of(max_execution_s=1e-9).splits(Stage.TRUNK, 16).limit == 1
    assert costs_of().splits(Stage.TRUNK, 16).limit == LIMIT


def test_scattered_executions_make_plans_cautious():
    costs = costs_of()
    for _ in range(300):
        costs.observe(Stage.READ, 0, 4, costs.predict_s(Stage.READ, 0, 4))
    assert costs.usable_s(1.0) == pytest.approx(1.0, rel=1e-3)
    for factor in [0.5, 1.5] * 100:
        costs.observe(Stage.READ, 0, 4, factor * costs.predict_s(Stage.READ, 0, 4))
    assert 0.4 < costs.usable_s(1.0) < 0.6

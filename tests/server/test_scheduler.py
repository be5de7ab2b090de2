from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.backends.fake import BUCKETS, TAPE_CAPACITY, fake_manifest
from server.models.manifest import Latency
from server.records import BudgetReason, Priority
from server.scheduler import Costs, Lane, LatencyModel, Scheduler, Stage, Ticket, due_s

MANIFEST = fake_manifest()
MODEL = "adatape_fake/1"
LIMIT = 4
FLOORS = {Priority.HIGH: 8, Priority.NORMAL: 4}
ALONE_S = Costs(MANIFEST, LatencyModel(MANIFEST), LIMIT).alone_s(0)
"""What the smallest budget takes at the least."""


def open_scheduler(queue_delay_s=0.0, manifest=MANIFEST, limit=LIMIT, floors=None):
    scheduler = Scheduler(queue_delay_s, floors)
    scheduler.add_model(MODEL, Costs(manifest, LatencyModel(manifest), limit))
    return scheduler


def push(scheduler, order, *, stage=Stage.READ, bucket=0, due=None, deadline=inf, now=0.0, model=MODEL, **ticket):
    cap = ticket.pop("cap", 0 if stage is Stage.EMBED else TAPE_CAPACITY)
    ticket = Ticket(float(order) if due is None else due, order, cap, deadline, **ticket)
    scheduler.push(model, stage, bucket, ticket, now)
    return ticket


def orders(batch):
    return [ticket.order for ticket in batch.tickets]


def with_costs(costs):
    """Return the manifest with a latency table of trunk costs: (bucket, batch) -> seconds."""
    entries = [Latency(stage="trunk", bucket=b, batch=n, p50_s=s) for (b, n), s in costs.items()]
    table = MANIFEST.latency.model_copy(update={"entries": entries})
    return MANIFEST.model_copy(update={"latency": table})


def test_nothing_waits_nothing_runs():
    assert open_scheduler().next_batch(0.0) is None


def test_a_lone_ticket_runs_at_once():
    scheduler = open_scheduler()
    push(scheduler, 0)
    batch = scheduler.next_batch(0.0)
    assert (batch.model, batch.stage, batch.bucket, orders(batch)) == (MODEL, Stage.READ, 0, [0])
    assert scheduler.num_waiting == 0


def test_a_batch_takes_the_earliest_due_up_to_its_limit():
    scheduler = open_scheduler()
    for order, due in enumerate([5.0, 1.0, 4.0, 2.0, 3.0, 0.5]):
        push(scheduler, order, due=due)
    assert orders(scheduler.next_batch(0.0)) == [5, 1, 3, 4]
    assert orders(scheduler.next_batch(0.0)) == [2, 0]


def test_equals_are_served_in_order_of_arrival():
    scheduler = open_scheduler()
    for order in range(6):
        push(scheduler, order, due=1.0)
    assert orders(scheduler.next_batch(0.0)) == [0, 1, 2, 3]


def test_the_lane_with_the_earliest_head_goes_first():
    scheduler = open_scheduler()
    push(scheduler, 0, stage=Stage.READ, due=2.0)
    push(scheduler, 1, stage=Stage.TRUNK, bucket=8, due=1.0)
    push(scheduler, 2, stage=Stage.EMBED, due=3.0)
    assert [scheduler.next_batch(0.0).stage for _ in range(3)] == [Stage.TRUNK, Stage.READ, Stage.EMBED]


def test_models_never_share_a_batch():
    scheduler = open_scheduler()
    scheduler.add_model("other/1", Costs(MANIFEST, LatencyModel(MANIFEST), LIMIT))
    push(scheduler, 0)
    push(scheduler, 1, model="other/1")
    assert [scheduler.next_batch(0.0).model for _ in range(2)] == [MODEL, "other/1"]


def test_samples_that_read_nothing_are_batched_apart():
    scheduler = open_scheduler()
    push(scheduler, 0, stage=Stage.EMBED)
    push(scheduler, 1, stage=Stage.READ)
    assert orders(scheduler.next_batch(0.0)) == [0]


def test_queue_delay_holds_a_batch_until_it_is_full_or_old():
    scheduler = open_scheduler(queue_delay_s=0.002)
    push(scheduler, 0, now=1.0)
    assert scheduler.next_batch(1.001) is None
    assert scheduler.wake_at(1.001) == pytest.approx(1.002)
    assert orders(scheduler.next_batch(1.002)) == [0]
    for order in range(1, 1 + LIMIT):
        push(scheduler, order, now=2.0)
    assert orders(scheduler.next_batch(2.0)) == [1, 2, 3, 4]


def test_wake_is_the_next_deadline_and_never_without_one():
    scheduler = open_scheduler()
    push(scheduler, 0)
    assert scheduler.wake_at(0.0) is None
    push(scheduler, 1, deadline=7.0)
    assert scheduler.wake_at(0.0) == pytest.approx(7.0 - ALONE_S)


def test_who_cannot_make_it_any_more_leaves_and_the_others_stay():
    scheduler = open_scheduler()
    late, ontime = push(scheduler, 0, deadline=1.0), push(scheduler, 1, deadline=3.0)
    assert scheduler.expire(1.0 - ALONE_S - 1e-6) == []
    assert scheduler.expire(1.0 - ALONE_S + 1e-6) == [late]
    assert scheduler.next_batch(1.0).tickets == [ontime]


def test_a_deadline_holds_in_the_second_stage_too():
    scheduler = open_scheduler()
    ticket = push(scheduler, 0, deadline=1.0)
    scheduler.next_batch(0.0)
    assert scheduler.expire(0.5) == []
    scheduler.push(MODEL, Stage.TRUNK, 4, ticket, 0.5)
    assert scheduler.expire(1.0) == [ticket]
    assert scheduler.expire(2.0) == []


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_cancelled_ticket_leaves_from_any_position(position):
    scheduler = open_scheduler()
    tickets = [push(scheduler, order) for order in range(LIMIT)]
    scheduler.cancel(tickets[position])
    scheduler.cancel(tickets[position])
    assert scheduler.num_waiting == LIMIT - 1
    assert orders(scheduler.next_batch(0.0)) == [order for order in range(LIMIT) if order != position]


def test_cancelling_a_ticket_that_runs_changes_nothing():
    scheduler = open_scheduler()
    ticket = push(scheduler, 0)
    scheduler.next_batch(0.0)
    scheduler.cancel(ticket)
    assert scheduler.num_waiting == 0


def test_dead_entries_do_not_pile_up():
    lane = Lane(MODEL, Stage.READ, 0)
    keeper = Ticket(due_s=-1.0, order=-1, cap=0)
    lane.push(keeper, 0.0)
    for order in range(10_000):
        ticket = Ticket(due_s=float(order), order=order, cap=0)
        lane.push(ticket, 0.0)
        lane.leave(ticket)
    assert len(lane._heap) < 200
    assert (lane.pop(), lane.pop()) == (keeper, None)


def test_deadlines_of_the_departed_do_not_pile_up():
    scheduler = open_scheduler()
    for order in range(10_000):
        push(scheduler, order, deadline=1e9)
        scheduler.next_batch(0.0)
    assert len(scheduler._alarms) < 200


def test_sweeping_the_departed_forgets_no_one_who_waits():
    scheduler = open_scheduler()
    waiting = [push(scheduler, order, stage=Stage.TRUNK, bucket=16, due=1e6, deadline=1e6) for order in range(5)]
    for order in range(5, 500):
        push(scheduler, order, deadline=1e9)
        scheduler.next_batch(0.0)
    assert scheduler.expire(1e6) == waiting


def test_riders_fill_a_larger_bucket_where_the_fixed_cost_weighs_more():
    overhead = {(b, n): 1.0 + 0.001 * n * (1 + b) for b in BUCKETS for n in (1, LIMIT)}
    scheduler = open_scheduler(manifest=with_costs(overhead))
    push(scheduler, 0, stage=Stage.TRUNK, bucket=8, due=0.0)
    push(scheduler, 1, stage=Stage.TRUNK, bucket=0, due=1.0)
    push(scheduler, 2, stage=Stage.TRUNK, bucket=4, due=1.0)
    push(scheduler, 3, stage=Stage.TRUNK, bucket=16, due=1.0)
    batch = scheduler.next_batch(0.0)
    assert (batch.bucket, orders(batch)) == (8, [0, 2, 1])
    assert orders(scheduler.next_batch(0.0)) == [3]


def test_nobody_rides_where_rows_cost_and_executions_do_not():
    rows_only = {(b, n): 0.001 * n * (1 + b) for b in BUCKETS for n in (1, LIMIT)}
    scheduler = open_scheduler(manifest=with_costs(rows_only))
    push(scheduler, 0, stage=Stage.TRUNK, bucket=8, due=0.0)
    push(scheduler, 1, stage=Stage.TRUNK, bucket=4, due=1.0)
    assert orders(scheduler.next_batch(0.0)) == [0]


def test_riders_wait_where_their_own_batch_would_soon_be_full():
    """Alone a rider pays the whole fixed cost of its own bucket; with others on the way only its share."""
    costs = {(b, n): 0.3 + 0.1 * n * (1 + b / 8) for b in BUCKETS for n in (1, LIMIT)}
    alone, flowing = open_scheduler(manifest=with_costs(costs)), open_scheduler(manifest=with_costs(costs))
    for scheduler in (alone, flowing):
        push(scheduler, 0, stage=Stage.TRUNK, bucket=16, due=0.0)
        push(scheduler, 1, stage=Stage.TRUNK, bucket=0, due=1.0)
    for order in range(2, 2 + 2 * LIMIT):
        push(flowing, order, stage=Stage.READ, due=2.0)
    assert orders(alone.next_batch(0.0)) == [0, 1]
    assert orders(flowing.next_batch(0.0)) == [0]


@pytest.mark.parametrize("seated", [1, 3])
def test_a_batch_with_riders_keeps_its_limit(seated):
    overhead = {(b, n): 1.0 + 0.001 * n for b in BUCKETS for n in (1, LIMIT)}
    scheduler = open_scheduler(manifest=with_costs(overhead))
    for order in range(seated):
        push(scheduler, order, stage=Stage.TRUNK, bucket=16, due=0.0)
    for order in range(10, 16):
        push(scheduler, order, stage=Stage.TRUNK, bucket=4, due=1.0)
    assert len(scheduler.next_batch(0.0).tickets) == LIMIT


def test_work_grows_with_what_waits_and_ends_at_nothing():
    scheduler = open_scheduler()
    assert scheduler.work_s == 0
    works = []
    for order, (stage, bucket) in enumerate([(Stage.EMBED, 0), (Stage.READ, 0), (Stage.TRUNK, 16)]):
        push(scheduler, order, stage=stage, bucket=bucket)
        works.append(scheduler.work_s)
    assert works == sorted(works)
    while scheduler.next_batch(0.0):
        pass
    assert scheduler.work_s == 0


def test_priorities_age():
    old_low = due_s(0.0, inf, Priority.LOW)
    assert due_s(8.9, inf, Priority.NORMAL) < old_low < due_s(9.1, inf, Priority.NORMAL)
    assert due_s(5.0, inf, Priority.HIGH) < due_s(5.0, inf, Priority.NORMAL) < due_s(5.0, inf, Priority.LOW)
    assert due_s(5.0, 5.05, Priority.LOW) == 5.05


@given(
    arrivals=st.lists(
        st.tuples(st.floats(0, 0.02), st.sampled_from(list(Priority)), st.sampled_from([Stage.EMBED, Stage.READ])),
        min_size=1,
        max_size=60,
    )
)
def test_law_bounded_wait(arrivals):
    """A ticket starts no later than after the batch that runs, and the work of those that are due before it."""
    scheduler = open_scheduler()
    arrivals = sorted(arrivals, key=lambda arrival: arrival[0])
    tickets = [
        Ticket(due_s(at, inf, priority), order, 0 if stage is Stage.EMBED else TAPE_CAPACITY)
        for order, (at, priority, stage) in enumerate(arrivals)
    ]
    slowest = max(LatencyModel(MANIFEST).predict_s(s, 0, LIMIT) for s in ("embed", "read"))
    started, now, pushed = {}, 0.0, 0
    while len(started) < len(tickets):
        while pushed < len(tickets) and arrivals[pushed][0] <= now:
            scheduler.push(MODEL, arrivals[pushed][2], 0, tickets[pushed], now)
            pushed += 1
        batch = scheduler.next_batch(now)
        if batch is None:
            now = arrivals[pushed][0]
            continue
        started |= dict.fromkeys(orders(batch), now)
        now += slowest
    for ticket in tickets:
        ahead = sum(1 for other in tickets if (other.due_s, other.order) <= (ticket.due_s, ticket.order))
        assert started[ticket.order] <= arrivals[ticket.order][0] + (1 + ahead) * slowest + 1e-9


# --- Caps ----------------------------------------------------------------------------------------


def test_the_ceiling_binds_who_waits_but_never_below_its_floor():
    scheduler = open_scheduler(floors=FLOORS)
    low, normal, high = (push(scheduler, n, priority=p, due=0.0) for n, p in enumerate(reversed(Priority)))
    modest = push(scheduler, 3, cap=1, due=0.0)
    scheduler.set_ceiling(MODEL, 2)
    assert orders(scheduler.next_batch(0.0)) == [0, 1, 2, 3]
    assert [ticket.cap for ticket in (low, normal, high, modest)] == [2, 4, 8, 1]
    assert [ticket.reason for ticket in (low, modest)] == [BudgetReason.DEGRADED, BudgetReason.MODEL]


def test_who_is_capped_at_zero_changes_lanes_and_is_batched_there():
    scheduler = open_scheduler()
    for order in range(LIMIT + 1):
        push(scheduler, order)
    scheduler.set_ceiling(MODEL, 0)
    batches = [scheduler.next_batch(0.0) for _ in range(2)]
    assert [(batch.stage, orders(batch)) for batch in batches] == [(Stage.EMBED, [0, 1, 2, 3]), (Stage.EMBED, [4])]


def test_those_capped_at_zero_are_batched_as_if_they_had_never_been_to_be_read():
    """A batch of readers is bounded in time; many times as many can be embedded meanwhile."""
    scheduler = Scheduler()
    scheduler.add_model(MODEL, Costs(MANIFEST, LatencyModel(MANIFEST), MANIFEST.max_batch_size, 0.001))
    costs = Costs(MANIFEST, LatencyModel(MANIFEST), MANIFEST.max_batch_size, 0.001)
    num_read, num_embedded = (costs.splits(stage, 0).limit for stage in (Stage.READ, Stage.EMBED))
    assert num_read < num_embedded
    for order in range(2 * num_embedded):
        push(scheduler, order)
    scheduler.set_ceiling(MODEL, 0)
    batch = scheduler.next_batch(0.0)
    assert batch.stage is Stage.EMBED
    assert len(batch.tickets) == costs.splits(Stage.EMBED, 0).first(2 * num_embedded) > num_read


def test_others_go_back_when_the_head_needs_no_reading():
    scheduler = open_scheduler(floors=FLOORS)
    push(scheduler, 0, priority=Priority.LOW)
    push(scheduler, 1, priority=Priority.HIGH)
    scheduler.set_ceiling(MODEL, 0)
    batches = [scheduler.next_batch(0.0) for _ in range(2)]
    assert [(batch.stage, orders(batch)) for batch in batches] == [(Stage.EMBED, [0]), (Stage.READ, [1])]


READ_S = LatencyModel(MANIFEST).predict_s("read", 0, 1)


@pytest.mark.parametrize(("cap", "bucket"), [(16, 16), (8, 8), (4, 4), (0, 0)])
def test_a_deadline_gets_the_largest_cap_that_its_slack_allows(cap, bucket):
    scheduler = open_scheduler()
    costs = scheduler._lines[MODEL].costs
    reader_s = READ_S if cap else costs.predict_s(Stage.EMBED, 0, 1)
    needed_s = reader_s + costs.predict_s(Stage.TRUNK, bucket, 1)
    cautious_s = needed_s * needed_s / costs.usable_s(needed_s)
    ticket = push(scheduler, 0, deadline=cautious_s * 1.001)
    batch = scheduler.next_batch(0.0)
    assert (ticket.cap, batch.stage) == (cap, Stage.READ if cap else Stage.EMBED)
    assert ticket.reason is (BudgetReason.DEADLINE if cap < 16 else BudgetReason.MODEL)


def test_a_tight_deadline_shrinks_its_batch_before_it_loses_tape():
    scheduler = open_scheduler(limit=16)
    tight = push(scheduler, 0, due=0.0, deadline=0.0014)
    for order in range(1, 16):
        push(scheduler, order)
    batch = scheduler.next_batch(0.0)
    assert 4 <= len(batch.tickets) < 16
    assert tight.cap == TAPE_CAPACITY


@given(
    st.lists(st.tuples(st.floats(0.0003, 0.02), st.integers(0, 16)), min_size=1, max_size=20),
    st.integers(0, TAPE_CAPACITY),
)
def test_law_whoever_is_read_for_a_deadline_can_make_it(asks, ceiling):
    """Alone on the device from then on, at its cap's bucket."""
    scheduler = open_scheduler(limit=16)
    scheduler.set_ceiling(MODEL, ceiling)
    latency = LatencyModel(MANIFEST)
    for order, (deadline, cap) in enumerate(asks):
        stage = Stage.READ if cap else Stage.EMBED
        push(scheduler, order, stage=stage, cap=cap, due=deadline, deadline=deadline)
    now = 0.0
    while scheduler.num_waiting:
        scheduler.expire(now)
        batch = scheduler.next_batch(now)
        if batch is None:
            break
        now += latency.predict_s(batch.stage, 0, len(batch.tickets))
        head = batch.tickets[0]
        rest_s = latency.predict_s("trunk", MANIFEST.bucket_for(head.cap), 1)
        assert now + rest_s <= head.deadline_s + 1e-9


# --- Sharing -------------------------------------------------------------------------------------


def test_models_share_the_device_by_predicted_cost():
    """One model's backlog, however old, keeps no other from its half of the device."""
    slow = MANIFEST.model_copy(
        update={
            "latency": MANIFEST.latency.model_copy(
                update={
                    "entries": [e.model_copy(update={"p50_s": 10 * e.p50_s}) for e in MANIFEST.latency.entries],
                }
            )
        }
    )
    scheduler = open_scheduler()
    scheduler.add_model("slow", Costs(slow, LatencyModel(slow), LIMIT))
    for order in range(100):
        push(scheduler, order, model="slow", due=-1000.0)
    for order in range(100, 200):
        push(scheduler, order, due=1000.0)
    used_s = {MODEL: 0.0, "slow": 0.0}
    for _ in range(22):
        batch = scheduler.next_batch(0.0)
        used_s[batch.model] += batch.predicted_s
    assert used_s[MODEL] == pytest.approx(used_s["slow"], rel=0.1)


def test_who_was_idle_gets_its_share_from_now_on_and_no_arrears():
    scheduler = open_scheduler()
    scheduler.add_model("idle", Costs(MANIFEST, LatencyModel(MANIFEST), LIMIT))
    for order in range(200):
        push(scheduler, order)
    for _ in range(20):
        scheduler.next_batch(0.0)
    for order in range(200, 240):
        push(scheduler, order, model="idle")
    models = [scheduler.next_batch(0.0).model for _ in range(10)]
    assert models.count("idle") == 5


def test_work_ahead_is_what_is_due_before():
    scheduler = open_scheduler()
    for order in range(50):
        push(scheduler, order, stage=Stage.TRUNK, bucket=8)
    scheduler.cancel(scheduler._lines[MODEL].trunks[1].head())
    unit_s = scheduler.work_s / 49  # of a trunk lane, where no smaller budget helps
    assert scheduler.ahead_s(0.5) == 0
    assert scheduler.ahead_s(10.5) == pytest.approx(10 * unit_s)
    assert scheduler.ahead_s(inf) == pytest.approx(scheduler.work_s)


class SchedulerMachine(RuleBasedStateMachine):
    """Law of conservation: every ticket pushed leaves exactly once, whatever happens in between."""

    def __init__(self):
        super().__init__()
        self.scheduler = open_scheduler(queue_delay_s=0.5, floors=FLOORS)
        self.now = 0.0
        self.waiting = {}
        self.running = []
        self.num_pushed = self.num_left = 0

    @rule(
        cap=st.integers(0, TAPE_CAPACITY),
        patience=st.floats(0, 3),
        lifetime=st.floats(0.0005, 0.002) | st.floats(0.1, 5) | st.just(inf),
        priority=st.sampled_from(Priority),
    )
    def arrive(self, cap, patience, lifetime, priority):
        ticket = Ticket(self.now + patience, self.num_pushed, cap, self.now + lifetime, priority)
        self.scheduler.push(MODEL, Stage.READ if cap else Stage.EMBED, 0, ticket, self.now)
        self.waiting[ticket.order] = ticket
        self.num_pushed += 1

    @rule(cap=st.integers(0, TAPE_CAPACITY))
    def steer(self, cap):
        self.scheduler.set_ceiling(MODEL, cap)

    @rule(seconds=st.floats(0, 1))
    def pass_time(self, seconds):
        self.now += seconds

    @rule()
    def expire(self):
        for ticket in self.scheduler.expire(self.now):
            assert ticket.deadline_s < inf
            del self.waiting[ticket.order]
            self.num_left += 1
        assert all(ticket.latest_s > self.now for ticket in self.waiting.values())

    @rule()
    def run(self):
        self.expire()
        batch = self.scheduler.next_batch(self.now)
        for ticket in [] if batch is None else batch.tickets:
            del self.waiting[ticket.order]
        self.expire()
        if batch is None:
            return
        assert 0 < len(batch.tickets) <= LIMIT
        assert batch.predicted_s > 0
        assert batch.rest_s >= 0
        if batch.stage is Stage.READ:
            ceiling = self.scheduler.ceiling(MODEL)
            assert all(0 < ticket.cap <= max(ceiling, FLOORS.get(ticket.priority, 0)) for ticket in batch.tickets)
        if batch.stage is Stage.EMBED:
            assert all(ticket.cap == 0 for ticket in batch.tickets)
        self.running.append(batch)

    @precondition(lambda self: self.running)
    @rule(bucket=st.sampled_from(BUCKETS))
    def finish(self, bucket):
        batch = self.running.pop(0)
        for ticket in batch.tickets:
            if batch.stage is Stage.TRUNK:
                self.num_left += 1
            else:
                self.scheduler.push(MODEL, Stage.TRUNK, bucket, ticket, self.now)
                self.waiting[ticket.order] = ticket

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data):
        order = data.draw(st.sampled_from(sorted(self.waiting)))
        self.scheduler.cancel(self.waiting.pop(order))
        self.num_left += 1

    @invariant()
    def everyone_is_somewhere(self):
        assert self.scheduler.num_waiting == len(self.waiting)
        assert (self.scheduler.work_s > 0) == bool(self.waiting)
        in_flight = sum(len(batch.tickets) for batch in self.running)
        assert self.num_pushed == len(self.waiting) + in_flight + self.num_left


TestConservation = SchedulerMachine.TestCase
TestConservation.settings = settings(max_examples=60, stateful_step_count=60)

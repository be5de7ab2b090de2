"""Tenants share a device by weight, in FLOPs: nobody is starved, nobody saves up, and one alone gets everything."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.backends.fake import TAPE_CAPACITY, fake_manifest
from server.records import Priority
from server.scheduler import Costs, Fairness, LatencyModel, Scheduler, Share, Stage, Ticket
from tests.server.test_scheduler import SchedulerMachine

MANIFEST = fake_manifest()
LIMIT = 4
COSTS = Costs(MANIFEST, LatencyModel(MANIFEST), LIMIT)
MOST_FLOPS = max(COSTS.flops(*place) for place in COSTS.places)
BUCKETS = COSTS.buckets


class Device:
    """One instance that runs what a fair scheduler picks, and knows what each share has had and asked for."""

    def __init__(self, *shares, models=("m",)):
        self.scheduler = Scheduler(fairness=Fairness())
        for model in models:
            self.scheduler.add_model(model, Costs(MANIFEST, LatencyModel(MANIFEST), LIMIT))
        self.had = dict.fromkeys(shares, 0)
        self.num_done = dict.fromkeys(shares, 0)
        self.num_asked = dict.fromkeys(shares, 0)
        self.now = 0.0
        self._order = 0

    def ask(self, share, cap=TAPE_CAPACITY, model="m", **ticket):
        self._order += 1
        self.num_asked[share] += 1
        ticket = Ticket(self.now + 1, self._order, cap, share=share, **ticket)
        self.scheduler.push(model, Stage.READ if cap else Stage.EMBED, 0, ticket, self.now)
        return ticket

    def run(self, bucket=BUCKETS[-1]):
        """Run one execution; give its batch."""
        batch = self.scheduler.next_batch(self.now)
        if batch is None:
            return None
        self.now += batch.predicted_s
        for ticket in batch.tickets:
            self.had[ticket.share] += COSTS.flops(batch.stage, batch.bucket)
            if batch.stage is Stage.TRUNK:
                self.num_done[ticket.share] += 1
            else:
                self.scheduler.push(
                    batch.model, Stage.TRUNK, COSTS.bucket_of[min(bucket, ticket.cap)], ticket, self.now
                )
        return batch

    def keep_waiting(self, share, num, **ask):
        while share.num_waiting < num:
            self.ask(share, **ask)


def test_without_tenants_nothing_is_shared():
    scheduler = Scheduler()
    scheduler.add_model("m", COSTS)
    ticket = Ticket(1.0, 0, 8)
    scheduler.push("m", Stage.READ, 0, ticket, 0.0)
    assert type(ticket.lane).__name__ == "Lane"
    assert ticket.share is None


def test_a_greedy_tenant_does_not_hold_up_a_small_one():
    greedy, small = Share(), Share()
    device = Device(greedy, small)
    for _ in range(1000):
        device.ask(greedy)
    for _ in range(5):
        device.run()
    device.ask(small)
    num_executions = 0
    while device.num_done[small] == 0:
        device.run()
        num_executions += 1
    assert num_executions <= 3  # its reading, its trunk, and at most one that others led


def test_one_tenant_alone_gets_everything():
    share = Share(weight=0.001)
    device = Device(share)
    for _ in range(LIMIT):
        device.ask(share)
    assert len(device.run().tickets) == LIMIT


def test_tenants_ride_together():
    one, other = Share(), Share()
    device = Device(one, other)
    for share in (one, one, one, other, other, other):
        device.ask(share)
    batch = device.run()
    assert [ticket.share for ticket in batch.tickets] == [one, other, one, other]


def test_within_a_tenant_the_earliest_due_goes_first():
    share, other = Share(), Share()
    device = Device(share, other)
    device.ask(other)
    tickets = [device.ask(share, priority=Priority.LOW), device.ask(share)]
    tickets[0].due_s, tickets[1].due_s = 5.0, 1.0
    device = Device(share, other)
    late, early = Ticket(9.0, 1, 8, share=share), Ticket(2.0, 2, 8, share=share)
    for ticket in (late, early):
        device.scheduler.push("m", Stage.READ, 0, ticket, 0.0)
    assert device.scheduler.next_batch(0.0).tickets == [early, late]


def test_who_was_idle_neither_saves_up_nor_owes():
    busy, idle = Share(), Share()
    device = Device(busy, idle)
    for _ in range(50):
        device.keep_waiting(busy, 8)
        device.run()
    before = device.had[busy]
    for _ in range(40):
        device.keep_waiting(busy, 8)
        device.keep_waiting(idle, 8)
        device.run()
    assert device.had[busy] - before == pytest.approx(device.had[idle], abs=2 * LIMIT * MOST_FLOPS)


def test_a_ticket_that_changes_lanes_is_charged_where_it_runs():
    share = Share()
    device = Device(share)
    device.scheduler.set_ceiling("m", 0)
    device.ask(share)
    batch = device.run()
    assert batch.stage is Stage.EMBED
    assert share.virtual_flops == COSTS.flops(Stage.EMBED, 0)


weights = st.floats(0.1, 10)


@given(
    st.lists(weights, min_size=2, max_size=5),
    st.sampled_from(BUCKETS),
    st.sampled_from((0, TAPE_CAPACITY)),
    st.lists(st.integers(0, 40), max_size=60),
)
@settings(max_examples=60)
def test_while_all_have_enough_waiting_each_gets_its_part(weights, bucket, cap, extras):
    """However many more some send: FLOPs by weight differ by what little the executions in between hold."""
    shares = [Share(weight) for weight in weights]
    device = Device(*shares)
    for extra in extras:
        for place, share in enumerate(shares):
            device.keep_waiting(share, 4 * LIMIT + extra * place, cap=cap)
        device.run(bucket)
        parts = [device.had[share] / share.weight for share in shares]
        assert max(parts) - min(parts) <= 2 * (LIMIT + 1) * MOST_FLOPS / min(weights)


@given(st.integers(1, 3), weights, st.lists(st.integers(0, 30), min_size=20, max_size=60))
@settings(max_examples=60)
def test_a_greedy_tenant_cannot_starve_a_small_one(num_models, weight, floods):
    """A small tenant that asks for less than its part is served within a bounded number of executions."""
    greedy, small = Share(weight), Share()
    models = [f"m{number}" for number in range(num_models)]
    device = Device(greedy, small, models=models)
    for number, num_asked in enumerate(floods):
        for _ in range(num_asked):
            device.ask(greedy, model=models[number % num_models])
        device.ask(small, model=models[0])
        # What the small one asks is two executions of its own; the greedy one is owed `weight` times as much between.
        bound = 4 + 4 * weight
        num_executions = 0
        while device.num_done[small] < device.num_asked[small]:
            assert device.run() is not None
            num_executions += 1
            assert num_executions <= bound


@given(st.lists(st.sampled_from(("one", "other")), max_size=30), st.data())
def test_leaving_from_anywhere_keeps_count(names, data):
    shares = {"one": Share(), "other": Share(2.0)}
    device = Device(*shares.values())
    waiting = [device.ask(shares[name]) for name in names]
    while waiting:
        ticket = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        device.scheduler.cancel(ticket)
        assert device.scheduler.num_waiting == len(waiting)
        assert sum(share.num_waiting for share in shares.values()) == len(waiting)
    assert device.scheduler.next_batch(0.0) is None


def test_a_floor_of_its_own_holds_against_the_ceiling():
    share = Share()
    device = Device(share)
    device.scheduler.set_ceiling("m", 1)
    kept, lowered = device.ask(share, floor=8), device.ask(share)
    device.run()
    assert (kept.cap, lowered.cap) == (8, 1)


class FairMachine(SchedulerMachine):
    """The machine of the scheduler's own laws, with tenants."""

    def __init__(self):
        super().__init__()
        self.scheduler = Scheduler(fairness=Fairness())
        self.scheduler.add_model("adatape_fake/1", Costs(MANIFEST, LatencyModel(MANIFEST), LIMIT))


TestFairConservation = FairMachine.TestCase
TestFairConservation.settings = settings(max_examples=30, stateful_step_count=50)


def test_deadlines_are_found_in_every_tenants_heap():
    one, other = Share(), Share()
    device = Device(one, other)
    device.ask(one, deadline_s=5.0)
    device.ask(other, deadline_s=6.0)
    device.ask(other, deadline_s=inf)
    lane = device.scheduler._lines["m"].read
    assert (lane.num_before(2.0), lane.num_before(2.0, is_deadline=True)) == (3, 2)
    assert len(device.scheduler.expire(10.0)) == 2

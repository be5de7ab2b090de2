"""Alarms against the plainest thing that could be right: looking at everybody, every time."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from server.scheduler.alarms import Alarms
from server.scheduler.lanes import Lane, Stage, Ticket


@dataclass
class Plain:
    """All tickets in line that are watched, and who of them is due."""

    tickets: list[Ticket]

    def take_due(self, now: float) -> list[Ticket]:
        due = [ticket for ticket in self.tickets if ticket.lane is not None and ticket.latest_s <= now]
        self.tickets = [ticket for ticket in self.tickets if ticket not in due]
        return due


steps = st.one_of(
    st.tuples(st.just("come"), st.floats(0, 10)),
    st.tuples(st.just("leave"), st.integers(0, 50)),
    st.tuples(st.just("return"), st.integers(0, 50), st.floats(0, 5)),
    st.tuples(st.just("look"), st.floats(0, 1)),
)


@given(st.lists(steps, max_size=200))
def test_who_is_due_is_found_once_whoever_comes_goes_and_comes_back(steps):
    alarms, plain, lane, now, all_ = Alarms(), Plain([]), Lane("m", Stage.READ, 0), 0.0, []
    for order, (kind, *values) in enumerate(steps):
        if kind == "come":
            ticket = Ticket(0.0, order, 16, latest_s=now + values[0], lane=lane)
            all_.append(ticket)
            plain.tickets.append(ticket)
            alarms.watch(ticket)
        elif kind == "leave" and all_:
            all_[values[0] % len(all_)].lane = None
        elif kind == "return" and all_:  # to a later stage, where less is left to do
            ticket = all_[values[0] % len(all_)]
            if ticket.lane is None and ticket in plain.tickets:
                ticket.lane, ticket.latest_s = lane, ticket.latest_s + values[1]
                alarms.watch(ticket)
        elif kind == "look":
            now += values[0]
            assert sorted(ticket.order for ticket in alarms.take_due(now)) == sorted(
                ticket.order for ticket in plain.take_due(now)
            )
            waiting = [ticket.latest_s for ticket in plain.tickets if ticket.lane is not None]
            assert not waiting or alarms.next_s() <= min(waiting)


def test_the_departed_are_forgotten_though_the_first_stays():
    alarms, lane = Alarms(), Lane("m", Stage.READ, 0)
    stays = Ticket(0.0, 0, 16, latest_s=0.5, lane=lane)
    alarms.watch(stays)
    for order in range(1, 10_000):
        ticket = Ticket(0.0, order, 16, latest_s=1.0 + order % 7, lane=lane)
        alarms.watch(ticket)
        ticket.lane = None
    assert len(alarms) < 200
    assert alarms.take_due(0.5) == [stays]

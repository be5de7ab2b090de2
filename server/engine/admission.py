"""May this request come in? Refuse early, cheaply, with a reason."""

from math import inf

from server.budget import Budget
from server.engine.families import Family
from server.errors import DeadlineExceeded
from server.records import InferRequest


def decide_budgets(request: InferRequest, family: Family) -> list[Budget]:
    """Return the budget of each sample.

    Raises: BadRequest for an ask that no cap can meet.
    """
    decide = family.budgets.decide
    if request.max_tape_B is None:
        return [decide(request.ask)] * request.num_samples
    by_cap = {max_tape: decide(request.ask, max_tape) for max_tape in set(request.max_tape_B)}
    return [by_cap[max_tape] for max_tape in request.max_tape_B]


def deadline_of(request: InferRequest, now: float) -> float:
    """Return the monotonic time of a request's deadline, infinity if it has none.

    Raises: DeadlineExceeded if it has passed.
    """
    if request.ask.deadline_s is None:
        return inf
    deadline_s = request.arrival_s + request.ask.deadline_s
    if deadline_s <= now:
        raise DeadlineExceeded("deadline", f"{request.ask.deadline_s:g} s", f"more than {now - request.arrival_s:g} s")
    return deadline_s

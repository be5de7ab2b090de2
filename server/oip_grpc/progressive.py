"""`parameters: progressive`: first the answer of a small budget, then the one that was asked for.

`true` takes a first cap of 0, a number is the first cap itself. The client may stop by cancelling the stream: a
refinement that has not begun is not charged. There is none where no larger cap could better the first answer.
"""

from dataclasses import replace

from server.dataplane import OipRequest
from server.errors import BadRequest

PROGRESSIVE = "progressive"


def take_first_step(request: OipRequest) -> tuple[OipRequest | None, OipRequest]:
    """Return the first step of a progressive call, None for any other, and the call without the parameter.

    Raises: BadRequest for a first cap that is none.
    """
    if PROGRESSIVE not in request.parameters:
        return None, request
    parameters = dict(request.parameters)
    first = parameters.pop(PROGRESSIVE)
    rest = replace(request, parameters=parameters)
    if first is False:
        return None, rest
    cap = 0 if first is True else first
    if not isinstance(cap, int) or cap < 0:
        raise BadRequest(PROGRESSIVE, first, "true, false, or the first cap: an integer, 0 or more")
    asked = parameters.get("max_tape", cap)
    if type(asked) is int and asked < cap:
        return None, rest
    # What accuracy the small budget reaches is the small budget's affair.
    small = {name: value for name, value in parameters.items() if name != "min_accuracy"}
    return replace(request, parameters={**small, "max_tape": cap}), rest

"""The mix of requests: every surface, requests that are abandoned, and requests that have to be refused."""

from collections.abc import Awaitable, Callable

from loadtest.soak.http import HttpCalls
from loadtest.soak.inputs import Inputs
from loadtest.soak.rpc import RpcCalls


class Traffic:
    """Draws requests at random and sends them."""

    def __init__(self, inputs: Inputs, url: str, grpc_address: str) -> None:
        self._random = inputs.random
        self._http = http = HttpCalls(inputs, url)
        self._rpc = rpc = RpcCalls(inputs, grpc_address)
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            http.classify: 25, http.form: 8, http.base64: 4, http.infer: 18, http.infer_json: 4,
            rpc.infer: 10, rpc.stream: 6,
            http.spend: 6, rpc.spend: 2,
            http.leave: 6, http.leave_infer: 3, rpc.leave: 3, rpc.leave_stream: 1,
            http.refused: 8, http.late: 2, rpc.refused: 2,
        }  # fmt: skip

    async def one(self) -> None:
        """Make one call, or one stream of calls, of a kind that is drawn."""
        (make,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
        await make()

    def gap_s(self, rate: float) -> float:
        """Draw the time to the next call."""
        return self._random.expovariate(rate)

    async def close(self) -> None:
        await self._http.close()
        await self._rpc.close()

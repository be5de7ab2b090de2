"""Reads a stream's requests until the client ends it or the server stops."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any


class StoppableStream:
    """An asynchronous iterator over requests; `was_stopped` says that the server ended it."""

    def __init__(self, requests: AsyncIterator[Any], stopping: asyncio.Event) -> None:
        self._requests = aiter(requests)
        self._stopping = stopping
        self.was_stopped = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            while not self.was_stopped:
                read = asyncio.ensure_future(self._next())
                await asyncio.wait((read, stop), return_when=asyncio.FIRST_COMPLETED)
                if not read.done():
                    read.cancel()
                    self.was_stopped = True
                elif (request := read.result()) is not None:
                    yield request
                else:
                    return
        finally:
            stop.cancel()

    async def _next(self) -> Any:
        return await anext(self._requests, None)

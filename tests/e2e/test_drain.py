"""A stop signal under load: readiness goes first, what is asked meanwhile is answered, nothing accepted is lost."""

import asyncio
import re
import signal

import httpx

from loadtest.process import start_server
from tests.e2e.test_classify import picture

NUM_CONNECTIONS = 500
DELAY_S = 1.5
CALL = "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n"


class Tally:
    """What one set of callers saw."""

    def __init__(self) -> None:
        self.num_answered = 0
        self.num_after_signal = 0
        self.num_closing = 0
        self.wrong: list[bytes] = []
        self.is_signalled = False


async def keep_asking(address: tuple[str, int], call: bytes, tally: Tally, started: asyncio.Semaphore) -> None:
    """Ask over one connection until the server says that it closes it, or takes no more."""
    reader, writer = await asyncio.open_connection(*address)
    started.release()
    try:
        while True:
            writer.write(call)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head).group(1)))
            if not head.startswith(b"HTTP/1.1 200"):
                tally.wrong.append(head + body)
            tally.num_answered += 1
            tally.num_after_signal += tally.is_signalled
            if b"connection: close" in head:
                tally.num_closing += 1
                return
    except asyncio.IncompleteReadError as error:
        if error.partial or not tally.is_signalled:
            tally.wrong.append(error.partial or b"closed")
    except ConnectionError:
        pass  # the request met a door that was closed already: it was not accepted
    finally:
        writer.close()


def test_nothing_accepted_is_lost_with_500_connections_open():
    content = picture()
    call = CALL.format(len(content)).encode() + content

    async def scenario(url: httpx.URL, stop) -> tuple[Tally, int]:
        tally, started = Tally(), asyncio.Semaphore(0)
        callers = [
            asyncio.create_task(keep_asking((url.host, url.port), call, tally, started)) for _ in range(NUM_CONNECTIONS)
        ]
        for _ in range(NUM_CONNECTIONS):
            await started.acquire()
        while tally.num_answered < NUM_CONNECTIONS:  # noqa: ASYNC110 - the server decides when
            await asyncio.sleep(0)
        tally.is_signalled = True
        stop()
        async with httpx.AsyncClient() as client:
            readiness = 200
            while readiness == 200:
                readiness = (await client.get(f"{url}/readyz")).status_code
        await asyncio.gather(*callers)
        return tally, readiness

    with start_server("--backend", "fake", "--drain-delay-s", str(DELAY_S)) as running:
        tally, readiness = asyncio.run(
            scenario(httpx.URL(running.url), lambda: running.process.send_signal(signal.SIGTERM))
        )
        assert running.wait_for_end() == 0, running.log
    assert tally.wrong == []
    assert readiness == 503
    assert tally.num_after_signal >= NUM_CONNECTIONS
    assert tally.num_closing == NUM_CONNECTIONS
    assert "abandoned=0" in running.log
    assert "Traceback" not in running.log

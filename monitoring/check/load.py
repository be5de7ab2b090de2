"""`python -m monitoring.check.load`: send requests of all kinds that the metrics distinguish, until it is stopped."""

import argparse
import asyncio
import random
from collections.abc import Sequence
from io import BytesIO

import httpx
import numpy as np
from PIL import Image

from loadtest.lean_http import Client, render
from loadtest.load import run_open

RATE = 60.0
"""Requests a second: enough for every series to move, little enough for two cores."""
CHUNK_S = 5.0
NUM_IMAGES = 16
SIDE_PX = 160
CAPS = ("", "?max_tape=0", "?max_tape=4", "?max_tape=8", "?priority=low", "?deadline_ms=60")
TIMEOUT_S = 30.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask until it is stopped."""
    options = argparse.ArgumentParser(prog="python -m monitoring.check.load", description=__doc__)
    options.add_argument("--url", required=True, help="a running server")
    asyncio.run(_ask(options.parse_args(arguments).url))


async def _ask(url: str) -> None:
    client, requests, rng = Client(url), _requests(url), np.random.default_rng(0)
    chooser = random.Random(0)
    while True:
        times_s = np.sort(rng.uniform(0.0, CHUNK_S, rng.poisson(RATE * CHUNK_S)))
        await run_open(client, lambda _: chooser.choice(requests), times_s)


def _requests(url: str) -> list[bytes]:
    """Return classify calls under all kinds of caps for every model, binary infer calls, and a call that is wrong."""
    described = httpx.get(f"{url}/v1/models", timeout=TIMEOUT_S, trust_env=False).raise_for_status().json()
    models = [model["name"] for model in described["models"]]
    photos = [_photo(seed) for seed in range(NUM_IMAGES)]
    caps = [f"{query}{'&' if query else '?'}model={model}" for query in CAPS for model in models]
    requests = [
        render(f"/v1/classify{caps[index % len(caps)]}", photo, {"Content-Type": "image/jpeg"})
        for index, photo in enumerate(photo for photo in photos for _ in range(len(caps)))
    ]
    return [*requests, render("/v1/classify", b"no image", {"Content-Type": "image/jpeg"})]


def _photo(seed: int) -> bytes:
    """Return a picture of soft blobs, as JPEG: enough structure for tapes of different lengths."""
    rng = np.random.default_rng(seed)
    small_HW3 = rng.integers(0, 256, (2 + seed, 2 + seed, 3), np.uint8)
    output = BytesIO()
    Image.fromarray(small_HW3).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).save(output, "JPEG")
    return output.getvalue()


if __name__ == "__main__":
    main()

"""Random inputs of the requests: pictures, caps and callers, from one generator."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from loadtest.soak.client_log import ANONYMOUS, ClientLog
from loadtest.tenants import STEADY

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
NUM_PICTURES = 32
PATCHES = 4
"""Half of the pictures are noise, the others as many smooth patches a side: the tape reads them differently."""
CAMERA_SCALE = 3
"""How much larger than the model's input a JPEG is."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as pixels of the model's size and as the files that may be sent."""

    number: int
    pixels_HW3: Pixels
    png: bytes
    jpeg: bytes

    def draw_file(self, random: Random) -> tuple[bytes, str]:
        """Return a file of it and its media type."""
        return random.choice([(self.png, "image/png"), (self.jpeg, "image/jpeg")])


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs for one model, and the log of the requests. `keys` are the callers' API keys by tenant."""

    name: str
    tape_capacity: int
    size: tuple[int, int]
    log: ClientLog
    random: Random
    keys: Mapping[str, str]
    pictures: list[Picture] = field(default_factory=list)

    def picture(self) -> Picture:
        return self.random.choice(self.pictures)

    def cap(self) -> int:
        """Draw a cap, which may be beyond the tape capacity."""
        return self.random.randint(0, self.tape_capacity + 1)

    def caller(self) -> str:
        """Draw a tenant without a quota."""
        return self.random.choice([ANONYMOUS, ANONYMOUS, STEADY])

    def key_of(self, tenant: str) -> dict[str, str]:
        """Return the header or metadata that says who asks."""
        return {"x-api-key": self.keys[tenant]} if tenant in self.keys else {}


def make_inputs(model: Mapping[str, Any], log: ClientLog, seed: int, keys: Mapping[str, str]) -> Inputs:
    """Return the inputs for a model, as `GET /v1/models/{name}` describes it."""
    size = model["preprocessing"]["height"], model["preprocessing"]["width"]
    inputs = Inputs(model["name"], model["tape_capacity"], size, log, Random(seed), keys)
    generator = np.random.default_rng(seed)
    for number in range(NUM_PICTURES):
        shape = size if number % 2 else (PATCHES, PATCHES)
        drawn = Image.fromarray(generator.integers(0, 256, (*shape, 3), np.uint8))
        inputs.pictures.append(_make_picture(number, drawn.resize(size[::-1], Image.Resampling.BICUBIC)))
    return inputs


def _make_picture(number: int, image: Image.Image) -> Picture:
    camera = image.resize((image.width * CAMERA_SCALE, image.height * CAMERA_SCALE), Image.Resampling.BICUBIC)
    return Picture(number, np.asarray(image), _to_file(image, "PNG"), _to_file(camera, "JPEG"))


def _to_file(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()

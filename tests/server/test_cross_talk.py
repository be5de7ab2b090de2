"""20,000 requests at once, all different: each gets the answer that it would get alone."""

import asyncio

import numpy as np

from server.backends.fake import FAMILY, SIDE_PX, TAPE_CAPACITY, FakeModel
from server.engine import build_engine
from server.metrics import Metrics
from server.records import InferRequest, RequestLimits
from server.settings import Settings
from tests.server.simulation import RAISE_IN_READ
from tests.server.test_engine import in_world

NUM_REQUESTS = 20_000
NO_LIMITS = {"max_pending_samples": "inf", "max_pending_s": "inf"}


def distinct_images(num_images):
    """Return images of all brightnesses, no two of which have the same first ten bytes, so nor the same answer."""
    rng = np.random.default_rng(9)
    pixels = rng.integers(0, 256, (num_images, SIDE_PX, SIDE_PX, 3), np.uint8)
    pixels = (pixels // 8 + rng.integers(0, 224, (num_images, 1, 1, 1), np.uint8)).astype(np.uint8)
    pixels[:, 0, 0, 0] %= RAISE_IN_READ
    places = np.arange(num_images)
    pixels[:, 0, 0, 1], pixels[:, 0, 0, 2] = places % 256, places // 256
    return pixels


def solo(image_HWC, cap):
    """Return the logits and the tape length of an image that a model has for itself, without any engine."""
    model, cap_11 = FakeModel(), np.full((1, 1), cap, np.int32)
    reading = model.read(image_HWC[None], cap_11)
    bucket = next(b for b in (0, 4, 8, 16) if b >= reading.tape_length_B1[0, 0])
    logits_BC = model.run_trunk(reading.hidden_BSD, reading.tape_BND[:, :bucket], reading.tape_length_B1)
    return logits_BC[0], reading.tape_length_B1[0, 0]


async def ask_all(engine, pixels, caps, now):
    requests = [
        InferRequest(f"r{number}", FAMILY, image_HWC[None], now, RequestLimits(max_tape=cap))
        for number, (image_HWC, cap) in enumerate(zip(pixels, caps, strict=True))
    ]
    return await asyncio.gather(*map(engine.infer, requests))


def assert_each_has_its_own(answers, pixels, caps):
    assert [answer.request_id for answer in answers] == [f"r{number}" for number in range(len(pixels))]
    for answer, image_HWC, cap in zip(answers, pixels, caps, strict=True):
        (sample,) = answer.samples
        logits_C, tape_length = solo(image_HWC, cap)
        assert sample.receipt.tape_length == tape_length
        np.testing.assert_array_equal(sample.logits_C, logits_C)
    assert len({answer.samples[0].logits_C.tobytes() for answer in answers}) == len(answers)


def caps_of(num_images):
    return np.random.default_rng(1).integers(0, TAPE_CAPACITY + 1, num_images).tolist()


def test_20_000_requests_without_cross_talk():
    pixels, caps = distinct_images(NUM_REQUESTS), caps_of(NUM_REQUESTS)

    async def scenario(world):
        return await ask_all(world.engine, pixels, caps, asyncio.get_running_loop().time())

    assert_each_has_its_own(in_world(scenario, num_instances=4, **NO_LIMITS), pixels, caps)


async def test_20_000_requests_without_cross_talk_on_real_threads():
    pixels, caps = distinct_images(NUM_REQUESTS), caps_of(NUM_REQUESTS)
    engine = build_engine(Settings(backend="fake", num_instances=3, **NO_LIMITS), Metrics())
    await engine.start()
    answers = await ask_all(engine, pixels, caps, asyncio.get_running_loop().time())
    assert await engine.drain(30.0) == 0
    assert_each_has_its_own(answers, pixels, caps)

"""Calls carry a picture and its cap; answers are read alike from every surface."""

import json

import numpy as np
import pytest

from loadtest.infer_requests import BINARY, CLASSIFY, FORMS, Pictures, load_pictures, read_reply, to_request
from loadtest.lean_http import Reply
from loadtest.photos import find_photos, find_samples, random_crops, read_photo, to_jpeg, to_pixels
from loadtest.target import Curve, Target, find_target, to_curve
from loadtest.usage_errors import UsageError

RECEIPT = {
    "cap": 4, "budget_reason": "requested", "tape_length": 3, "tape_length_wanted": 9, "bucket": 4,
    "useful_flops": 100, "executed_flops": 120,
}  # fmt: skip


def curve() -> Curve:
    points = [
        {"cap": cap, "accuracy": share, "accuracy_low": share - 0.1, "accuracy_high": share + 0.1}
        for cap, share in ((8, 0.8), (0, 0.4))
    ]
    return to_curve({"data": "some.npz", "split": "test", "num_samples": 50, "points": points}, 8)


def target(**changes) -> Target:
    fields = {
        "url": "http://127.0.0.1:1", "model": "m", "version": "1", "device": "CPU", "height": 8, "width": 8,
        "tape_capacity": 8, "full_flops": 200.0, "curve": curve(),
    }  # fmt: skip
    return Target(**{**fields, **changes})


def pictures() -> Pictures:
    pixels = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    return Pictures([to_jpeg(each) for each in pixels], pixels, "made up")


def test_the_curve_is_a_straight_line_between_its_points() -> None:
    assert curve().accuracy[[0, 4, 8]].tolist() == pytest.approx([0.4, 0.6, 0.8])
    assert curve().low[4] == pytest.approx(0.5)


def test_caps_are_named_bounded_and_not_repeated() -> None:
    assert target().caps("0, 4,full,99") == [0, 4, 8]
    assert target().caps(None) == [0, 2, 4, 8]
    assert [target().name_of(cap) for cap in (0, 8)] == ["0", "full"]


@pytest.mark.parametrize("text", ["-1", "some", "4,,8", "1.5"])
def test_what_is_no_cap_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"max-tape; got '.*'; expected numbers"):
        target().caps(text)


def test_a_call_names_its_cap_unless_it_wants_all() -> None:
    capped, full = (to_request(CLASSIFY, target(), pictures(), 1, cap) for cap in (4, 8))
    assert (capped.path, full.path) == ("/v1/classify?model=m&top_k=1&max_tape=4", "/v1/classify?model=m&top_k=1")
    assert capped.body == pictures().files[1]


def test_a_binary_call_carries_the_pixels_after_its_header() -> None:
    request = to_request(BINARY, target(), pictures(), 1, 4)
    length = int(request.headers["Inference-Header-Content-Length"])
    assert json.loads(request.body[:length])["parameters"] == {"max_tape": 4}
    assert request.body[length:] == pictures().pixels_BHWC[1].tobytes()
    assert request.render().startswith(b"POST /v2/models/m/infer HTTP/1.1\r\n")


def test_both_forms_say_the_same() -> None:
    classified = json.dumps({"results": [{"predictions": [{"index": 1}], "receipt": RECEIPT}]}).encode()
    header = json.dumps({"parameters": RECEIPT}).encode()
    head = f"HTTP/1.1 200 OK\r\ninference-header-content-length: {len(header)}".encode()
    binary = header + np.array([0.1, 0.9, 0.2], "<f4").tobytes()
    bodies = {CLASSIFY: Reply(200, b"HTTP/1.1 200 OK", classified), BINARY: Reply(200, head, binary)}
    first, second = (read_reply(form, bodies[form]) for form in FORMS)
    assert first == second
    assert (first.best, first.cap, first.tape_length, first.executed_flops) == (1, 4, 3, 120)


@pytest.mark.skipif(not find_samples(), reason="no package with sample photos in this environment")
def test_crops_differ_and_repeat() -> None:
    first, again = (random_crops(8, 8, 12, np.random.default_rng(3)) for _ in range(2))
    assert (first == again).all()
    assert len({crop.tobytes() for crop in first}) == 12
    assert len(load_pictures(target(), 3, None)) == 3


def test_a_folder_is_sent_as_it_is(tmp_path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").write_bytes(pictures().files[0])
    (tmp_path / "notes.txt").write_text("no picture")
    found = load_pictures(target(height=4, width=4), 10, tmp_path)
    assert list(found.files) == [pictures().files[0]]
    assert found.pixels_BHWC.shape == (1, 4, 4, 3)
    assert to_pixels(read_photo(tmp_path / "cat" / "a.jpg"), 2, 3).shape == (2, 3, 3)


def test_folders_without_pictures_are_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"photos; got .*nowhere; expected a folder"):
        find_photos(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="photos; got none below"):
        find_photos(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"photo; got .*broken.png; expected an image"):
        load_pictures(target(), 1, tmp_path)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "http://[", "127.0.0.1:1"])
def test_a_server_that_is_not_there_is_said_in_a_line(url: str) -> None:
    with pytest.raises(UsageError, match=r"server at .*; got .*; expected one that runs: make serve") as raised:
        find_target(url)
    assert "\n" not in str(raised.value)

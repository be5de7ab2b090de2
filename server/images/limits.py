"""What an image may unfold into, judged from its header and its bytes before anything is decoded."""

from threading import Lock

from server.errors import NotAnImage, PayloadTooLarge

_MAX_SIDE = 65_535
"""As in a JPEG. Shrinking a longer row takes gigabytes for its weights alone, and holds up everyone else for it."""
_MAX_SCANS = 100
"""An encoder writes some ten. Each passes over the whole image, however few bytes it has: a file of many would take a
thread for an hour."""
_MAX_PASSES = 32
"""Over the samples of the largest image, a second and a half; an encoder of four colours comes to 24."""


class PixelBudget:
    """What the images of one request may unfold into all together; any thread may spend of it."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._spent = 0
        self._lock = Lock()

    def spend(self, num_pixels: int) -> None:
        """Raise PayloadTooLarge once it is overspent."""
        with self._lock:
            self._spent += num_pixels
            if self._spent > self._max_pixels:
                raise PayloadTooLarge("pixels of the request's images", self._spent, f"at most {self._max_pixels}")


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise PayloadTooLarge for more pixels than that, NotAnImage for none."""
    size = f"{width} x {height}"
    if width * height > max_pixels:
        raise PayloadTooLarge("the image has too many pixels", size, f"at most {max_pixels} in all")
    if max(width, height) > _MAX_SIDE:
        raise PayloadTooLarge("the image is too long", size, f"sides of at most {_MAX_SIDE}")
    if width * height == 0:
        raise NotAnImage("the image has no pixels", size, "at least 1 x 1")


def check_scans(num_scans: int) -> None:
    """Raise PayloadTooLarge for a JPEG picture of very many scans."""
    if num_scans > _MAX_SCANS:
        raise PayloadTooLarge("scans of the JPEG image", num_scans, f"at most {_MAX_SCANS}")


def check_passes(num_samples: int, max_pixels: int) -> None:
    """Raise PayloadTooLarge for a JPEG picture whose scans together pass over that many samples of it."""
    if num_samples > _MAX_PASSES * max_pixels:
        limit = f"at most {_MAX_PASSES * max_pixels}"
        raise PayloadTooLarge("samples that the scans of the JPEG image pass over", num_samples, limit)

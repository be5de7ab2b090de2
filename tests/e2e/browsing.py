"""A real browser on the page of a real server: what is watched at every visit, and pictures to show it."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from PIL import Image

from loadtest.process import Server, start_server

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright in this environment")
expect = sync_api.expect

WAIT_MS = 30_000
DESKTOP = {"viewport": {"width": 1200, "height": 900}}
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
LOCAL = ("data", "blob")
SERVERS = {"ort": ("--backend", "ort"), "fake": ("--backend", "fake", "--slo-ms", "60000")}


@dataclass
class Visit:
    """One page, and what it did besides showing itself."""

    page: "sync_api.Page"
    url: str
    problems: list[str] = field(default_factory=list)
    """What the browser's console called an error, and what scripts threw."""
    foreign_requests: list[str] = field(default_factory=list)
    """Requests to anyone but the server."""

    def open(self) -> "Visit":
        """Go there and wait until the first drawing is answered."""
        self.page.goto(self.url)
        expect(self.page.locator("#classes li").first).to_be_visible()
        expect(self.page.locator("#compare")).not_to_contain_text("…")
        return self

    def forgive(self, *statuses: int) -> None:
        """Take away what the browser says of answers with these statuses, which the test has asked for."""
        asked = [f"status of {status} " for status in statuses]
        self.problems = [problem for problem in self.problems if not any(words in problem for words in asked)]

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text().replace("\N{NO-BREAK SPACE}", " ")


@contextmanager
def launched() -> Iterator["sync_api.Browser"]:
    """Start Chromium, and end it: while it runs, so does its event loop, so no test outside may need one."""
    expect.set_options(timeout=WAIT_MS)
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visiting(browser: "sync_api.Browser", running: Server, **options: object) -> Iterator[Visit]:
    """Open a fresh browser context; at the end nothing must have failed, and nobody else been asked."""
    context = browser.new_context(**{**DESKTOP, **options})
    context.set_default_timeout(WAIT_MS)
    visit = Visit(context.new_page(), running.url)
    host = urlsplit(running.url).netloc

    def note(request: "sync_api.Request") -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in LOCAL and parts.netloc != host:
            visit.foreign_requests.append(request.url)

    visit.page.on("request", note)
    visit.page.on("pageerror", lambda error: visit.problems.append(str(error)))
    visit.page.on("console", lambda said: visit.problems.append(said.text) if said.type == "error" else None)
    yield visit
    context.close()
    assert visit.foreign_requests == []
    assert visit.problems == []


@contextmanager
def served(backend: str) -> Iterator[Server]:
    with start_server(*SERVERS[backend]) as running:
        yield running
        assert running.is_running, running.log


def picture(level: int = 128, size: tuple[int, int] = (300, 200), kind: str = "JPEG") -> bytes:
    """Return a plain picture; the fake model wants a tape of (level + 1) // 16."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(buffer, kind)
    return buffer.getvalue()


def upload(name: str, data: bytes) -> dict[str, object]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


_GIVE = """async ([event, name, width, height, isNoisy]) => {
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    for (let at = 0; at < pixels.data.length; at += 4) {
        pixels.data.set([0, 1, 2].map(() => (isNoisy ? 256 * Math.random() : 128)).concat(255), at);
    }
    context.putImageData(pixels, 0, 0);
    const files = new DataTransfer();
    files.items.add(new File([await canvas.convertToBlob()], name, { type: "image/png" }));
    const Kind = event === "paste" ? ClipboardEvent : DragEvent;
    const carried = { [event === "paste" ? "clipboardData" : "dataTransfer"]: files };
    document.dispatchEvent(new Kind(event, { ...carried, cancelable: true }));
}"""


def give(page: "sync_api.Page", event: str, name: str, width: int, height: int, *, is_noisy: bool = False) -> None:
    """Drop or paste a picture that the browser itself makes; a noisy one is a big file."""
    page.evaluate(_GIVE, [event, name, width, height, is_noisy])

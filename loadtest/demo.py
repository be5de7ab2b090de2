"""`python -m loadtest.demo`: send sample photos to a running server at several caps, and print what each answer cost.

The photos come with installed Python packages; none is part of this project.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from loadtest.api_key import HELP, OPTION, to_headers
from loadtest.photos import find_samples

COLUMNS = ("photo", "cap", "label", "probability", "tape", "wanted", "MFLOPs", "of full", "ms")
TIMEOUT_S = 60.0
Json = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one table for each model.

    Raises: SystemExit if there is no photo, or no server that answers.
    """
    options = _parse(arguments)
    photos = options.photos or find_samples()
    if not photos:
        raise SystemExit("photos; got none; expected scikit-image or scikit-learn installed, or --photos FILE ...")
    try:
        with httpx.Client(base_url=options.url, timeout=TIMEOUT_S, headers=to_headers(options.api_key)) as client:
            for model in _models(client, options.model):
                _show(client, model, photos, options.caps)
    except httpx.TransportError as error:
        raise SystemExit(f"server at {options.url}; got {error}; expected one that runs: make serve") from error


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.demo", description=(__doc__ or "").split(": ", 1)[1])
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the server (default: %(default)s)")
    parser.add_argument(OPTION, metavar="KEY", help=HELP)
    parser.add_argument("--model", help="call only this model (default: every model)")
    parser.add_argument("--caps", type=_caps, help="such as 0,4,8 (default: 0, a quarter, a half, all of the tape)")
    parser.add_argument("--photos", type=Path, nargs="+", help="your own photos (default: samples of a package)")
    return parser.parse_args(arguments)


def _caps(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _models(client: httpx.Client, name: str | None) -> list[Json]:
    if name is not None:
        return [_checked(client.get(f"/v1/models/{name}"))]
    models: list[Json] = _checked(client.get("/v1/models"))["models"]
    return models


def _show(client: httpx.Client, model: Json, photos: Sequence[Path], caps: Sequence[int] | None) -> None:
    capacity = model["tape_capacity"]
    caps = caps or sorted({0, capacity // 4, capacity // 2, capacity})
    _ask(client, model["name"], photos[0], capacity)  # the first call of a connection pays for opening it
    print(f"\n{model['name']} version {model['version']}: tape capacity {capacity}, on {model['device']}")
    _print_table([_ask(client, model["name"], photo, cap) for photo in photos for cap in caps])


def _ask(client: httpx.Client, model: str, photo: Path, cap: int) -> tuple[str, ...]:
    """Post one photo under one cap; return its row of the table."""
    query: dict[str, str | int] = {"model": model, "max_tape": cap, "top_k": 1}
    content = photo.read_bytes()
    started_s = time.perf_counter()
    answer = _checked(client.post("/v1/classify", params=query, content=content))
    took_ms = (time.perf_counter() - started_s) * 1000
    (result,) = answer["results"]
    best, receipt = result["predictions"][0], result["receipt"]
    wanted = receipt["tape_length_wanted"]
    return (
        photo.name,
        str(cap),
        best["label"],
        f"{best['probability']:.3f}",
        str(receipt["tape_length"]),
        "-" if wanted is None else str(wanted),
        f"{receipt['useful_flops'] / 1e6:.4g}",
        f"{receipt['useful_flops'] / receipt['full_flops']:.0%}",
        f"{took_ms:.1f}",
    )


def _checked(response: httpx.Response) -> Json:
    body: Json = response.json()
    if response.is_error:
        raise SystemExit(f"{response.request.method} {response.url}: {response.status_code} {body['error']}")
    return body


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    for line in _format_table([COLUMNS, *rows]):
        print(line)


def _format_table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Align the columns; names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_name = [column in {"photo", "label"} for column in rows[0]]
    for row in rows:
        cells = zip(row, widths, is_name, strict=True)
        yield "  ".join(cell.ljust(width) if left else cell.rjust(width) for cell, width, left in cells).rstrip()


if __name__ == "__main__":
    main()

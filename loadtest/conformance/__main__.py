"""`python -m loadtest.conformance --http HOST:PORT --grpc HOST:PORT --model NAME`: check a server against the protocol.

Works with any server of the Open Inference Protocol. Exit status 1 if a check fails or, with a second server, if the
two differ where no reason is listed; 2 if a server does not answer at all.
"""

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.api_key import HELP, OPTION, to_headers
from loadtest.conformance import report
from loadtest.conformance.differences import compare
from loadtest.conformance.expect import Failure
from loadtest.conformance.model import Hints
from loadtest.conformance.registry import Check, Level, all_checks
from loadtest.conformance.runner import Result, Verdict, run
from loadtest.conformance.target import TIMEOUT_S, Target, discover
from loadtest.usage_errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks and return the exit status."""
    options = _parse(arguments)
    checks = _chosen(options)
    if options.list:
        print("\n".join(f"{each.name}  {each.level.value}  {each.statement}  [{each.source}]" for each in checks))
        return 0
    try:
        return _run(options, checks)
    except (Failure, UsageError) as failure:
        print(f"conformance: {failure}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, checks: Sequence[Check]) -> int:
    first = _results("first" if options.differential else "", _target(options, options.http, options.grpc), checks)
    documents = {"results": report.to_json(first.values())}
    has_failed = any(result.verdict is Verdict.FAIL for result in first.values())
    if options.differential:
        survivable = [each for each in checks if options.hazards or not each.is_hazard]
        second = _results("second", _target(options, *options.differential), survivable)
        differences = compare(first, second)
        print("\n".join(["", f"{len(differences)} differences", *report.difference_lines(differences)]))
        documents["second"] = report.to_json(second.values())
        has_failed |= any(not each.is_explained for each in differences)
    if options.json:
        options.json.write_text(json.dumps(documents, indent=1) + "\n")
    return int(has_failed)


def _results(title: str, target: Target, checks: Sequence[Check]) -> dict[str, Result]:
    print(f"{title} {target.http.host}:{target.http.port} model {target.model.name}".strip())
    results = []
    for result in run(checks, target):
        print(report.line(result))
        results.append(result)
    print(report.summary(results))
    return {result.check.name: result for result in results}


def _target(options: argparse.Namespace, http: str, grpc: str | None) -> Target:
    hints = Hints(
        inputs=options.input,
        shapes=dict(options.shape),
        data={name: Path(path).read_bytes() for name, path in options.data},
        options={name: float(value) for name, value in options.option},
        parameters={name: _value(text) for name, text in options.parameter},
    )
    shown = to_headers(options.api_key)
    return discover(http, grpc, options.model, hints, timeout_s=options.timeout, shown=shown)


def _chosen(options: argparse.Namespace) -> list[Check]:
    return [
        each
        for each in all_checks()
        if any(fnmatch.fnmatch(each.name, pattern) for pattern in options.only)
        and not any(fnmatch.fnmatch(each.name, pattern) for pattern in options.skip)
        and (options.level is None or each.level.name == options.level.upper())
    ]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.conformance", description=description.split(": ", 1)[1], epilog=epilog
    )
    add = parser.add_argument
    add("--http", default="127.0.0.1:8000", help="HTTP address of the server (default: %(default)s)")
    add("--grpc", help="gRPC address, such as 127.0.0.1:8001; without it, gRPC checks are skipped")
    add("--model", help="model to call (default: the only one)")
    add("--input", action="append", default=[], metavar="NAME", help="input to send, where all inputs are optional")
    add("--shape", action="append", default=[], type=_shape, metavar="NAME:N,N", help="its dimensions, without batch")
    add("--data", action="append", default=[], type=_pair, metavar="NAME=FILE", help="element of a BYTES input")
    add("--option", action="append", default=[], type=_pair, metavar="NAME=VALUE", help="value for an optional input")
    add("--parameter", action="append", default=[], type=_pair, metavar="NAME=VALUE", help="one that the model knows")
    add("--only", action="append", metavar="PATTERN", help="run only checks whose name matches")
    add("--skip", action="append", default=[], metavar="PATTERN", help="skip checks whose name matches")
    add("--level", choices=[level.name.lower() for level in Level], help="run only checks of this level")
    add("--differential", nargs=2, metavar=("HTTP", "GRPC"), help="check a second server too, and compare the two")
    add("--hazards", action="store_true", help="also run checks that may crash the second server")
    add("--json", type=Path, metavar="FILE", help="write the results to FILE")
    add("--timeout", type=float, default=TIMEOUT_S, metavar="S", help="seconds for one reply (default: %(default)s)")
    add(OPTION, help=HELP)
    add("--list", action="store_true", help="print the names of the checks and exit")
    options = parser.parse_args(arguments)
    options.only = options.only or ["*"]
    return options


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"got {text}; expected NAME=VALUE")
    return name, value


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.partition(":")
    return name, tuple(int(size) for size in sizes.split(","))


def _value(text: str) -> str | int | float | bool:
    """Return a parameter's value, in the type that its text has."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str | int | float | bool) else text


if __name__ == "__main__":
    sys.exit(main())

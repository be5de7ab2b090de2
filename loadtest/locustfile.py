"""Closed-loop users for Locust: `python -m locust -f loadtest/locustfile.py`; see docs/load-testing.md.

Three kinds of user, each with a tag: `classify` (image files to /v1/classify), `binary` (pixels by the Open Inference
Protocol) and `grpc`. Receipts appear as rows of type RECEIPT beside the requests, in their own units and outside the
totals; answers in time as a row of type SLO.
"""

import logging
import sys
from pathlib import Path
from typing import Any

from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.stats import StatsEntry

from loadtest.api_key import HELP, OPTION, to_headers
from loadtest.arrivals import read_trace
from loadtest.infer_requests import load_pictures
from loadtest.shapes import SHAPES, Shape, replay, users_at
from loadtest.summary import Check
from loadtest.target import find_target
from loadtest.usage_errors import MISSED, USAGE_ERROR, UsageError
from loadtest.users import IN_TIME, PLAN, SLO, BinaryUser, ClassifyUser, GrpcUser

__all__ = ["BinaryUser", "ClassifyUser", "GrpcUser"]

DEFAULT_HOST, DEFAULT_GRPC = "http://127.0.0.1:8000", "127.0.0.1:8001"
DEFAULT_SECONDS, DEFAULT_PEAK = 60.0, 10
"""Of a shape, where Locust's --run-time and --users are not given."""
NUM_PICTURES = 256


class Shaped(LoadTestShape):
    """Follows a shape for `--run-time`, with `--users` at its peak."""

    abstract = True
    use_common_options = True

    def __init__(self, shape: Shape, duration_s: float, peak: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shape, self.duration_s, self.peak = shape, duration_s, peak

    def tick(self) -> tuple[int, float] | None:
        users = users_at(self.shape, self.get_run_time(), self.duration_s, self.peak)  # type: ignore[no-untyped-call]
        return None if users is None else (users, float(self.peak))


# --- Locust's hooks --------------------------------------------------------------------------


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument(OPTION, default="", help=HELP, include_in_web_ui=False)  # groups cannot keep one off the page
    group = parser.add_argument_group("adatape-serve")
    add = group.add_argument
    add("--grpc", default=DEFAULT_GRPC, help="gRPC address of the server (default: %(default)s)")
    add("--model", default="", help="model to call (default: the server's default)")
    add("--max-tape", default="", help="caps to draw from, such as 0,4,8,full (default: a quarter, a half, all, 0)")
    add("--photos", default="", help="folder with your own photos (default: crops of sample photos)")
    add("--shape", default="", help=f"{', '.join(SHAPES)}, or a CSV with a column arrival_s to replay")
    add("--user-rate", type=float, default=0.0, help="requests/s of each user; 0 (default) sends the next one at once")
    add("--slo-ms", type=float, default=None, help="answer time that counts as in time; used by --min-attainment")
    add("--min-attainment", type=float, default=0.99, help="smallest share answered in time (default: %(default)s)")
    add("--max-failed", type=float, default=0.01, help="largest share of requests not answered (default: %(default)s)")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: Any) -> None:
    """Find the server, the pictures and the shape before anybody asks; end with one line where one is missing."""
    options: Any = environment.parsed_options
    environment.host = environment.host or DEFAULT_HOST
    try:
        PLAN.target = find_target(environment.host, options.model or None, to_headers(options.api_key))
        PLAN.caps = PLAN.target.caps(options.max_tape or None)
        PLAN.pictures = load_pictures(PLAN.target, NUM_PICTURES, Path(options.photos) if options.photos else None)
        shape = _find_shape(options.shape)
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(USAGE_ERROR)
    PLAN.slo_ms, PLAN.environment = options.slo_ms, environment
    _keep_tagged(environment, options)
    if shape is not None:
        duration_s = float(options.run_time or DEFAULT_SECONDS)
        environment.shape_class = Shaped(shape, duration_s, options.num_users or DEFAULT_PEAK)
        environment.shape_class.runner = environment.runner


def _find_shape(name: str) -> Shape | None:
    if not name or name in SHAPES:
        return SHAPES.get(name)
    try:
        return replay(read_trace(Path(name)))
    except (OSError, ValueError) as error:
        raise UsageError("shape", error, f"{', '.join(SHAPES)}, or a CSV with a column arrival_s") from error


def _keep_tagged(environment: Environment, options: Any) -> None:
    """Leave out the kinds of user whose only task the tags leave out: Locust would start and then fail them."""
    asked, barred = set(options.tags or ()), set(options.exclude_tags or ())

    def is_wanted(kind: Any) -> bool:
        tags = set().union(*(each.locust_tag_set for each in kind.tasks))
        return (not asked or bool(tags & asked)) and not tags & barred

    environment.user_classes = [kind for kind in environment.user_classes if is_wanted(kind)]


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _judge(environment: Environment, **_: Any) -> None:
    """Set the exit status from the thresholds."""
    total, options = environment.stats.total, environment.parsed_options
    if environment.process_exit_code is not None or not hasattr(PLAN, "environment"):
        return
    misses = [str(check) for check in _checks(environment, total, options) if not check.is_met]
    for line in misses:
        logging.getLogger(__name__).error("threshold missed: %s", line)
    environment.process_exit_code = MISSED if misses else 0


def _checks(environment: Environment, total: StatsEntry, options: Any) -> list[Check]:
    checks = [
        Check("requests", total.num_requests, 1),
        Check("failed", total.fail_ratio, options.max_failed, is_least=False),
    ]
    if options.slo_ms is not None:
        num_in_time = environment.stats.get(IN_TIME, SLO).num_requests
        share = num_in_time / max(total.num_requests, 1)
        checks.append(Check(f"attainment at {options.slo_ms:g} ms", share, options.min_attainment))
    return checks

"""The page's modules, run in Chromium against what Python says of the same data."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.images import Placement
from server.records import BudgetReason
from tests.e2e.browsing import launched, served, visiting

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def running():
    with served("fake") as running:
        yield running


@pytest.fixture(scope="module")
def api(running):
    with httpx.Client(base_url=running.url) as client:
        yield client


@pytest.fixture(scope="module")
def call(browser, running):
    """Call a function of a module of the page with arguments as JSON can carry them."""
    with visiting(browser, running) as visit:
        visit.open()

        def run(module, expression, *arguments):
            script = f"async (given) => {{ const m = await import('/static/js/{module}.js'); return ({expression}); }}"
            return visit.page.evaluate(script, list(arguments))

        yield run


def test_metrics_are_read_as_prometheus_s_own_client_reads_them(call, api):
    text = api.get("/metrics").text
    read = call("prometheus", "[...m.parse(given[0])].flatMap(([name, found]) => found.map((s) => [name, s]))", text)
    ours = {(name, *sorted(sample["labels"].items())): sample["value"] for name, sample in read}
    theirs = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert len(ours) > 100
    assert ours == theirs


def test_odd_labels_are_read(call):
    line = 'x_total{path="a\\\\b \\"c\\" {d=1},\\n",other=""} 3 1700000000\n# y 4\ny +Inf\n'
    read = call("prometheus", "Object.fromEntries(m.parse(given[0]))", line)
    assert read["x_total"] == [{"labels": {"path": 'a\\b "c" {d=1},\n', "other": ""}, "value": 3}]
    assert read["y"][0]["value"] == float("inf")


BEFORE = 'd_bucket{m="a",le="1"} 5\nd_bucket{m="a",le="2"} 5\nd_bucket{m="a",le="+Inf"} 5\n'
AFTER = 'd_bucket{m="a",le="1"} 7\nd_bucket{m="a",le="2"} 15\nd_bucket{m="a",le="+Inf"} 15\n'


@pytest.mark.parametrize(("share", "expected"), [(0.1, 0.5), (0.2, 1.0), (0.5, 1.375), (1.0, 2.0)])
def test_quantiles_lie_on_the_line_within_their_bucket(call, share, expected):
    script = "m.quantile(given[2], m.growth(m.parse(given[0]), m.parse(given[1]), 'd', {m: 'a'}))"
    assert call("prometheus", script, BEFORE, AFTER, share) == pytest.approx(expected)


def test_the_quantile_of_nothing_is_nothing(call):
    script = "m.quantile(0.5, m.growth(m.parse(given[0]), m.parse(given[0]), 'd'))"
    assert call("prometheus", script, AFTER) is None
    beyond = "m.quantile(0.99, [{edge: 1, count: 1}, {edge: Infinity, count: 9}])"
    assert call("prometheus", beyond) == 1


def test_the_curve_between_points_is_the_quote_s(call, api):
    path = "/v1/models/adatape_fake"
    points = api.get(f"{path}/curve").json()["points"]
    for cap in range(api.get(path).json()["tape_capacity"] + 1):
        quoted = api.post(f"{path}/quote", params={"max_tape": cap}).json()["expected"]
        value = call("curve", "m.valueAt(given[0], given[1])", points, cap)
        assert {name: value[name] for name in quoted} == pytest.approx(quoted)


def explanation(placement, boxes, bank="input"):
    """Return an explanation as the server gives it, of one token that read these boxes of a 32 px input."""
    named = ("left", "top", "right", "bottom")
    reads = [
        {"entry": entry, "weight": 0.5, "row": 0, "column": entry}
        | {name: dict(zip(named, corners, strict=True)) for name, corners in both.items()}
        for entry, both in enumerate({"box": box, "upload_box": placement.to_upload(box)} for box in boxes)
    ]
    return {
        "bank": bank,
        "input_size": {"width": 32, "height": 32},
        "upload_size": {"width": placement.width, "height": placement.height},
        "tokens": [{"token": 0, "reads": reads}],
    }


def test_reads_lie_where_a_centre_crop_has_put_them(call):
    crop = Placement(width=300, height=200, left=50, top=0, scale_x=200 / 32, scale_y=200 / 32)
    reading = call("heat", "m.toReading(given[0])", explanation(crop, [(0, 0, 4, 4), (28, 28, 32, 32)]))
    assert reading["view"] == pytest.approx({"x": 1 / 6, "y": 0, "width": 2 / 3, "height": 1})
    first, last = (read["box"] for read in reading["steps"][0])
    assert first == pytest.approx({"x": 1 / 6, "y": 0, "width": 1 / 12, "height": 1 / 8})
    assert last["x"] + last["width"] == pytest.approx(5 / 6)
    assert last["y"] + last["height"] == pytest.approx(1)


def test_a_learned_bank_has_no_place_in_the_photo(call):
    learned = explanation(Placement(9, 9, 0, 0, 1, 1), []) | {"bank": "learn"}
    learned["tokens"] = [{"token": 0, "reads": [{"entry": 3, "weight": 1.0}]}]
    reading = call("heat", "m.toReading(given[0])", learned)
    assert (reading["hasPlaces"], reading["view"], reading["steps"][0][0]["box"]) == (False, None, None)


def test_weights_add_up_over_the_steps(call):
    steps = [[{"entry": 1, "weight": 0.7}, {"entry": 2, "weight": 0.3}], [{"entry": 2, "weight": 0.6}]]
    weighed = call("heat", "[1, 2].map((step) => m.weigh({steps: given[0]}, step))", steps)
    assert [[(entry["entry"], entry["isNow"]) for entry in heat] for heat in weighed] == [
        [(1, True), (2, True)],
        [(2, True), (1, False)],
    ]
    assert [entry["weight"] for entry in weighed[1]] == pytest.approx([0.9, 0.7])


RECEIPT = {"cap": 6, "budget_reason": "requested", "tape_length": 6, "tape_length_wanted": 9, "tape_capacity": 12}
RECEIPT |= {"useful_flops": 69, "full_flops": 100}


def test_the_receipt_in_words(call):
    assert words(call, "tapeInWords", RECEIPT) == "Read 6 of 12 tape tokens; it wanted 9."
    assert words(call, "costInWords", RECEIPT) == "31 % cheaper than full tape."
    assert words(call, "costInWords", {**RECEIPT, "useful_flops": 100}) == "As dear as full tape."
    assert words(call, "tapeInWords", {**RECEIPT, "cap": 0}) == "Read no tape; up to 12 tokens were there to read."


@pytest.mark.parametrize("reason", list(BudgetReason))
@pytest.mark.parametrize("change", [{}, {"tape_length_wanted": 6}, {"cap": 0, "tape_length": 0}])
def test_every_reason_has_words(call, reason, change):
    if reason is BudgetReason.MODEL:
        change = {"cap": 12, "tape_length": 12, "tape_length_wanted": 12} if change else {"cap": 12}
    said = words(call, "whyInWords", {**RECEIPT, **change, "budget_reason": reason.value})
    assert said.endswith(".")
    assert "undefined" not in said


def words(call, function, receipt):
    return call("words", f"m.{function}(given[0])", receipt).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("m.short(0)", "0"),
        ("m.short(0.01234)", "0.0123"),
        ("m.short(4.567)", "4.57"),
        ("m.short(99.96)", "100"),
        ("m.short(1234)", "1234"),
        ("m.short(2.50)", "2.5"),
        ("m.flops(186400000)", "186 MFLOPs"),
        ("m.flops(999600)", "1 MFLOPs"),
        ("m.flops(6300)", "6.3 kFLOPs"),
        ("m.flops(12)", "12 FLOPs"),
        ("m.percent(0.3149)", "31 %"),
        ("m.percent(0)", "0 %"),
        ("m.percent(0.001)", "< 1 %"),
        ("m.percent(0.9999)", "> 99 %"),
        ("m.percent(1)", "100 %"),
        ("m.percent(0.71482, 1)", "71.5 %"),
    ],
)
def test_numbers_are_short(call, expression, expected):
    assert call("format", expression).replace("\N{NO-BREAK SPACE}", " ") == expected

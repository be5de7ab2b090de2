"""The page for those who listen, who use a keyboard, who prefer the dark or no motion, and on a phone."""

from itertools import pairwise

import pytest

from tests.e2e.browsing import PHONE, expect, launched, served, upload, visiting

pytestmark = pytest.mark.browser

WIDGETS = {"button", "link", "slider", "combobox", "DisclosureTriangle", "textbox", "img", "image", "region", "table"}
NEEDED_CONTRAST, NEEDED_LARGE, LARGE_PX = 4.5, 3.0, 24
NEEDED_EDGE = 3.0
MIN_TARGET_PX = 24

# For each text seen: its own words, its size, its colour and what lies behind it, as sRGB with alpha, outermost first.
TEXTS = """() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    const parse = (colour) => {
        const [red, green, blue, alpha = 1] = colour.match(/[\\d.]+/g).map(Number);
        return [red, green, blue, alpha];
    };
    while (walker.nextNode()) {
        const parent = walker.currentNode.parentElement, words = walker.currentNode.textContent.trim();
        const box = parent.getBoundingClientRect();
        if (!words || parent.closest("noscript, option, :disabled, .unseen") || box.width < 2) continue;
        const style = getComputedStyle(parent), behind = [];
        for (let at = parent; at; at = at.parentElement) behind.unshift(parse(getComputedStyle(at).backgroundColor));
        const ink = parent instanceof SVGElement ? style.fill : style.color;
        found.push({ words, size: parseFloat(style.fontSize), ink: parse(ink), behind });
    }
    return found;
}"""
EDGES = """() => [...document.querySelectorAll("button:enabled:not(.quiet), select")]
    .filter((element) => element.getBoundingClientRect().width > 2 && !element.querySelector("canvas"))
    .map((element) => [element.textContent || element.id, getComputedStyle(element).borderTopColor,
        getComputedStyle(document.body).backgroundColor])"""


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def running():
    with served("ort") as running:
        yield running


@pytest.fixture
def options():
    return {}


@pytest.fixture
def visit(browser, running, options):
    with visiting(browser, running, **options) as visit:
        yield visit.open()


@pytest.fixture
def page(visit):
    return visit.page


# --- Structure -------------------------------------------------------------------------------


def tree(page):
    return page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]


def test_every_control_has_a_name(page):
    page.locator("summary").click()
    nodes = [node for node in tree(page) if not node["ignored"]]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    named = [(role, name) for role, name in roles if role in WIDGETS]
    assert {"button", "link", "slider", "combobox"} <= {role for role, _ in named}
    assert [role for role, name in named if not name.strip()] == []


def test_every_control_says_something_of_its_own(page):
    names = [
        node["name"]["value"]
        for node in tree(page)
        if not node["ignored"] and node["role"]["value"] in {"button", "slider", "combobox", "link"}
    ]
    assert len(names) == len(set(names))


def test_the_document_is_in_order(page):
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.title()
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((heading) => Number(heading.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))
    pointed = page.evaluate("""[...document.querySelectorAll("[aria-labelledby], label[for], output[for]")]
        .map((element) => element.getAttribute("aria-labelledby") ?? element.getAttribute("for"))""")
    assert set(pointed) <= set(ids)
    for landmark in ("header", "nav", "main", "footer"):
        assert page.locator(landmark).count() == 1


def test_answers_and_errors_are_announced(visit):
    page = visit.page
    assert page.locator("#said").get_attribute("role") == "status"
    before = page.inner_text("#said")
    page.locator("#cap").fill("0")
    expect(page.locator("#said")).not_to_have_text(before)
    assert page.locator("[role=alert] #notice-title").count() == 1
    assert page.locator("[role=alert] button").count() == 0  # a countdown there would be read out every second


# --- Keyboard --------------------------------------------------------------------------------


def test_the_keyboard_reaches_everything_and_shows_where_it_is(page):
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        at = page.evaluate("""() => {
            const element = document.activeElement;
            if (element === document.body) return null;
            const ring = element.id === "file" ? element.nextElementSibling : element;
            const style = getComputedStyle(ring);
            const key = element.id || element.className || element.getAttribute("aria-label") || element.textContent;
            return [key.trim(), style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
        }""")
        if at is None:  # past the last one
            break
        seen.append(at)
    keys = [key for key, _ in seen]
    assert keys[0] == "skip"
    wanted = ["API", "file", "Drawing: golf ball", "play", "step", "model", "cap", "shell"]
    assert [key for key in keys if key in wanted] == wanted
    assert [key for key, is_shown in seen if not is_shown] == []


def test_a_drawing_and_the_tape_work_by_keyboard(page):
    page.locator("#samples button").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#samples button").nth(1)).to_have_attribute("aria-pressed", "true")
    page.locator("#play").focus()
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause the tape")


def test_the_skip_link_leads_to_the_photo(page):
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


# --- Sight -----------------------------------------------------------------------------------


def luminance(colour):
    shares = [value / 255 for value in colour]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def over(front, back):
    *colour, alpha = front
    return [alpha * mine + (1 - alpha) * yours for mine, yours in zip(colour, back, strict=True)]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_computed_as_it_is_defined():
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert contrast([119, 119, 119], [255, 255, 255]) == pytest.approx(4.48, abs=0.01)
    assert over([0, 0, 0, 0.5], [255, 255, 255]) == pytest.approx([127.5] * 3)


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=["light", "dark"])
def test_every_text_can_be_read(visit, options):
    page = visit.page
    page.set_input_files("#file", upload("broken.jpg", b"no picture"))
    expect(page.locator("#notice")).to_be_visible()
    page.locator("summary").click()
    texts = page.evaluate(TEXTS)
    assert len(texts) > 100
    poor = []
    for text in texts:
        ground = [255, 255, 255]
        for layer in text["behind"]:
            ground = over(layer, ground)
        ratio = contrast(over(text["ink"], ground), ground)
        if ratio < (NEEDED_LARGE if text["size"] >= LARGE_PX else NEEDED_CONTRAST):
            poor.append((text["words"], round(ratio, 2)))
    assert poor == []
    is_dark = luminance(texts[0]["behind"][1][:3]) < 0.1
    assert is_dark == (options["color_scheme"] == "dark")
    visit.forgive(415)


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=["light", "dark"])
def test_the_edges_of_controls_can_be_seen(page, options):
    edges = page.evaluate(EDGES)
    assert edges
    colours = [(name, *([int(part) for part in c[4:-1].split(",")] for c in pair)) for name, *pair in edges]
    assert [name for name, edge, paper in colours if contrast(edge, paper) < NEEDED_EDGE] == []


@pytest.mark.parametrize("options", [{"reduced_motion": "reduce"}])
def test_nothing_moves_for_those_who_prefer_it_so(page, options):
    moving = page.evaluate("""[...document.querySelectorAll("*")].filter((element) => {
        const style = getComputedStyle(element);
        return parseFloat(style.transitionDuration) > 0 || style.animationName !== "none";
    }).length""")
    assert moving == 0


# --- Phone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [PHONE])
def test_it_fits_a_phone(page, options):
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.locator("#samples button").nth(2).tap()
    expect(page.locator("#caption")).to_contain_text("parachute")
    small = page.evaluate(f"""[...document.querySelectorAll("a, button, select, input, summary, .button")]
        .filter((element) => !element.matches(".unseen, .skip, footer a") && element.getBoundingClientRect().width > 0)
        .filter((element) => Math.min(element.getBoundingClientRect().width, element.getBoundingClientRect().height)
            < {MIN_TARGET_PX})
        .map((element) => element.id || element.textContent)""")
    assert small == []
    wide = page.evaluate("""[...document.querySelectorAll("main *")]
        .filter((element) => !element.closest(".unseen, .scroll, svg"))
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
        .map((element) => element.className)""")
    assert wide == []


@pytest.mark.parametrize("options", [PHONE])
def test_photo_and_budget_can_be_seen_together_on_a_phone(page, options):
    """Whoever moves the slider wants to see what that does to the photo."""
    top, bottom = page.locator("#frame").bounding_box(), page.locator("#cap").bounding_box()
    assert bottom["y"] + bottom["height"] - top["y"] <= PHONE["viewport"]["height"]

"""The page in a real Chromium, on the real server: what a visitor does, and what they then see."""

import re

import pytest

from tests.e2e.browsing import expect, give, launched, picture, served, upload, visiting

pytestmark = pytest.mark.browser

NUMBER = re.compile(r"^\d[\d.]*")


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module", params=["ort", "fake"])
def running(request):
    with served(request.param) as running:
        yield running


@pytest.fixture
def visit(browser, running):
    with visiting(browser, running) as visit:
        yield visit.open()


@pytest.fixture
def page(visit):
    return visit.page


@pytest.fixture
def is_fake(running):
    return "FakeExecutionProvider" in running.log


def move(page, cap):
    page.locator("#cap").fill(str(cap))


def has_cap(page, cap):
    expect(page.locator("thead .is-yours")).to_contain_text(f"max_tape {cap}")


# --- At first sight --------------------------------------------------------------------------


def test_it_opens_with_a_drawing_answered_in_words(visit):
    assert re.fullmatch(r".+, (< 1|> 99|\d+) %\. Read \d+ of 16 tape tokens; .*", visit.text("#said"))
    assert re.search(r"(\d+ % cheaper than|As dear as) full tape\.", visit.text("#receipt"))
    assert visit.text("#why").endswith(".")
    assert re.search(r"FLOPs of .*FLOPs at full tape", visit.text("#facts"))


def test_it_compares_a_small_budget_with_yours_and_full_tape(visit):
    head = visit.page.locator("#compare thead th").all_inner_texts()
    assert [" ".join(cell.split()) for cell in head] == ["Small max_tape 2", "Yours max_tape 8", "Full max_tape 16"]
    rows = visit.page.locator("#compare tbody th").all_inner_texts()
    assert rows == ["Read", "Answer", "Tape", "Cost", "Took"]
    assert re.search(r"small budget", visit.text("#verdict"))


def test_the_curve_shows_the_budget_with_its_interval(visit):
    pattern = r"With max_tape 8, [\d.]+ % of answers are right on .*95 % interval [\d.]+ % to [\d.]+ %"
    assert re.search(pattern, visit.text("#curve-words"))
    assert visit.page.locator("#curve svg").get_attribute("aria-label") == visit.page.inner_text("#curve-words")
    before = visit.page.locator("#curve .here").get_attribute("cx")
    move(visit.page, 12)
    expect(visit.page.locator("#curve .here")).not_to_have_attribute("cx", before)


# --- Photos ----------------------------------------------------------------------------------


def test_each_drawing_can_be_tried(page):
    for button in page.locator("#samples button").all():
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#caption")).to_contain_text(button.get_attribute("aria-label"))
    assert page.locator("#samples [aria-pressed=true]").count() == 1


def test_a_chosen_photo_is_shown_and_answered(page):
    page.set_input_files("#file", upload("mine.jpg", picture()))
    expect(page.locator("#caption")).to_have_text("mine.jpg, 300 × 200")
    expect(page.locator("#photo")).to_have_attribute("alt", "Your photo: mine.jpg")
    expect(page.locator("#compare img")).to_have_count(3)
    assert page.evaluate("document.getElementById('photo').naturalWidth") == 300


def test_a_big_photo_is_sent_smaller(page):
    with page.expect_request(lambda request: "max_tape" in request.url) as sent:
        give(page, "drop", "huge.png", 1600, 1200, is_noisy=True)
    assert sent.value.header_value("content-type") == "image/jpeg"
    expect(page.locator("#caption")).to_have_text("huge.png, 1600 × 1200, sent smaller")
    assert page.evaluate("document.getElementById('photo').naturalWidth") == 1024


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_photos_can_be_dropped_and_pasted(page, event):
    give(page, event, "given.png", 40, 20)
    expect(page.locator("#caption")).to_have_text("given.png, 40 × 20")


# --- The budget ------------------------------------------------------------------------------


def test_the_slider_asks_again(visit):
    move(visit.page, 0)
    expect(visit.page.locator("#cap-words")).to_have_text("no tape")
    expect(visit.page.locator("#receipt")).to_contain_text("Read no tape")
    assert visit.text("#why") == "Nothing was read because of your budget of 0."
    assert visit.page.locator("#play").is_disabled()
    move(visit.page, 16)
    expect(visit.page.locator("#cap-words")).to_have_text("16, no limit")
    has_cap(visit.page, 16)
    assert "budget" not in visit.text("#why")
    assert "max_tape=16" in visit.text("#shell")


def test_the_slider_obeys_the_keyboard(page):
    page.locator("#cap").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    has_cap(page, 6)
    page.keyboard.press("End")
    has_cap(page, 16)


def test_a_late_answer_to_an_old_question_is_dropped(page):
    held = []

    def hold(route):  # a method of a list is not enough for playwright
        held.append(route)

    page.route("**/v1/classify?*max_tape=3&*", hold)
    with page.expect_request("**/v1/classify?*max_tape=3&*"):
        move(page, 3)
    move(page, 5)
    has_cap(page, 5)
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    for route in held:
        route.abort()  # the page has already left it
    assert "max_tape 5" in page.inner_text("thead .is-yours")
    assert page.locator("#notice").is_hidden()


def test_another_model_answers_about_the_same_photo(page, is_fake):
    names = page.locator("#model option").all_inner_texts()
    if is_fake:
        assert names == ["adatape_fake"]
        return
    caption, curve = page.inner_text("#caption"), page.inner_text("#curve-words")
    for name in names:
        page.select_option("#model", name)
        expect(page.locator("#shell")).to_contain_text(f"model={name}")
        expect(page.locator("#compare")).not_to_contain_text("…")
        assert page.inner_text("#caption") == caption
    assert len(names) == 1 or page.locator("#model").input_value() == names[-1]
    page.select_option("#model", names[0])
    expect(page.locator("#curve-words")).not_to_have_text(curve)


# --- The tape --------------------------------------------------------------------------------


def test_the_tape_plays_and_can_be_stepped(page):
    steps = int(page.locator("#step").get_attribute("max"))
    page.locator("#step").focus()
    page.keyboard.press("Home")
    expect(page.locator("#step-words")).to_have_text(re.compile(r"^Before the first of \d+ steps?\.$"))
    page.keyboard.press("ArrowRight")
    expect(page.locator("#step-words")).to_contain_text(f"Step 1 of {steps}: most at row ")
    assert page.locator("#step").get_attribute("aria-valuetext") == page.inner_text("#step-words")
    assert page.locator("#tape .is-shown").count() == 1
    page.locator("#tape span").nth(15).click()
    expect(page.locator("#step-words")).to_contain_text(f"Step {steps} of {steps}")
    page.locator("#play").click()
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause the tape")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Play the tape")
    expect(page.locator("#step-words")).to_contain_text(f"Step {steps} of {steps}")


def test_the_strip_tells_read_from_wanted(visit):
    move(visit.page, 1)
    has_cap(visit.page, 1)
    assert visit.page.locator("#tape .is-read").count() == 1
    wanted = int(re.search(r"wanted (\d+)", visit.text("#receipt"))[1])
    assert visit.page.locator("#tape .is-wanted").count() == wanted - 1


def test_the_heat_lies_where_the_model_looked(page, is_fake):
    """The fake model's n-th token reads entries 2n and 2n + 1, of 2 x 2 px, four in each of eight rows.

    At 128 of 255 that is the first four rows, which reach five of eight pixels down.
    """
    if not is_fake:
        pytest.skip("only the fake model's reads are known beforehand")
    move(page, 16)
    page.set_input_files("#file", upload("grey.jpg", picture(128)))
    expect(page.locator("#caption")).to_contain_text("grey.jpg")
    expect(page.locator("#tape .is-read")).to_have_count(8)
    warmth = page.evaluate("""() => {
        const canvas = document.getElementById("heat"), context = canvas.getContext("2d");
        const at = (place, size) => Math.floor(((place + 0.5) * size) / 8);
        return Array.from({ length: 64 }, (_, pixel) => {
            const [x, y] = [at(pixel % 8, canvas.width), at(Math.floor(pixel / 8), canvas.height)];
            const [red, , blue] = context.getImageData(x, y, 1, 1).data;
            return red - blue > 60;
        });
    }""")
    assert warmth == [pixel < 5 * 8 for pixel in range(64)]
    frame, photo = page.locator("#heat").bounding_box(), page.locator("#photo").bounding_box()
    assert frame == photo
    assert photo["width"] / photo["height"] == pytest.approx(1.5, abs=0.01)


# --- The server ------------------------------------------------------------------------------


def test_the_live_strip_counts_what_was_asked(visit, is_fake):
    page = visit.page
    before = page.locator("#live .value").nth(1)
    for cap in (3, 7, 11):
        move(page, cap)
        has_cap(page, cap)
    expect(page.locator("#live .note").nth(0)).to_contain_text(re.compile("answered"))
    for place in range(4):
        expect(page.locator("#live .value").nth(place)).to_have_text(NUMBER)
    expect(before).to_contain_text("ms")
    expect(page.locator("#live .value").nth(4)).to_have_text("16 of 16" if is_fake else "none")
    expect(page.locator("#lengths-words")).to_contain_text("answers of adatape_")
    assert page.locator("#lengths .is-some").count() >= 1
    assert page.locator("#lengths > div").count() == 17


def test_the_api_is_shown_under_its_own_policy(browser, running):
    with visiting(browser, running) as visit:
        visit.page.goto(f"{running.url}/docs")
        expect(visit.page.locator(".opblock").first).to_be_visible()
        assert visit.problems == []

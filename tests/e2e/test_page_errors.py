"""The page when things go wrong: it says what, keeps what it had, and finds its way back."""

import pytest

from loadtest.process import start_server
from server.settings import MIB
from server.tenancy.keys import make_key
from tests.e2e.browsing import expect, launched, picture, served, upload, visiting

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def running():
    with served("fake") as running:
        yield running


@pytest.fixture
def visit(browser, running):
    """A visit whose clock a test can put forward."""
    with visiting(browser, running) as visit:
        visit.page.clock.install()
        yield visit.open()


def refuse(page, status, message, **headers):
    body = f'{{"error": "{message}"}}'
    page.route("**/v1/classify?*", lambda route: route.fulfill(status=status, headers=headers, body=body))


def test_a_broken_file_is_refused_and_another_one_mends_it(visit):
    page = visit.page
    answer, caption = page.inner_text("#said"), page.inner_text("#caption")
    page.set_input_files("#file", upload("broken.jpg", b"no picture at all"))
    expect(page.locator("#notice-title")).to_have_text("This file is not a picture that the server can read")
    expect(page.locator("#notice-text")).to_contain_text("expected a JPEG, PNG, WebP, BMP or GIF image")
    assert (page.inner_text("#said"), page.inner_text("#caption")) == (answer, caption)
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    with page.expect_file_chooser() as chooser:
        page.click("#notice-act")
    chooser.value.set_files([upload("whole.jpg", picture())])
    expect(page.locator("#caption")).to_contain_text("whole.jpg")
    expect(page.locator("#notice")).to_be_hidden()
    visit.forgive(415)


def test_a_half_photo_is_refused_too(visit):
    data = picture(size=(900, 700))
    visit.page.set_input_files("#file", upload("half.jpg", data[: len(data) // 2]))
    expect(visit.page.locator("#notice-text")).to_contain_text("the JPEG image is broken")
    visit.page.click("#notice-close")
    expect(visit.page.locator("#notice")).to_be_hidden()
    visit.page.locator("#cap").fill("3")
    expect(visit.page.locator("thead .is-yours")).to_contain_text("max_tape 3")
    visit.forgive(415)


def test_too_large_a_file_is_refused(visit):
    visit.page.set_input_files("#file", upload("raw.jpg", b"\1" * (21 * MIB)))
    expect(visit.page.locator("#notice-title")).to_have_text("This photo is too large")
    expect(visit.page.locator("#notice-text")).to_contain_text(f"expected at most {20 * MIB} bytes")
    visit.forgive(413)


@pytest.mark.parametrize(
    ("status", "title"), [(503, "The server cannot take this now"), (429, "The quota is used up for now")]
)
def test_a_busy_server_is_asked_again_when_it_said(visit, status, title):
    page = visit.page
    refuse(page, status, "pending samples; got 9; expected fewer", **{"Retry-After": "7"})
    page.locator("#cap").fill("2")
    page.clock.run_for(200)
    expect(page.locator("#notice-title")).to_have_text(title)
    expect(page.locator("#notice-text")).to_have_text("The server says: pending samples; got 9; expected fewer.")
    expect(page.locator("#notice-act")).to_have_text("Try again (in 7 s)")
    page.clock.run_for(3000)
    expect(page.locator("#notice-act")).to_have_text("Try again (in 4 s)")
    page.unroute_all()
    page.clock.run_for(5000)
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("thead .is-yours")).to_contain_text("max_tape 2")
    visit.forgive(status)


def test_a_failure_without_a_time_waits_for_the_visitor(visit):
    page = visit.page
    refuse(page, 500, "the server failed unexpectedly")
    page.locator("#cap").fill("2")
    expect(page.locator("#notice-title")).to_have_text("The server failed")
    expect(page.locator("#notice-act")).to_have_text("Try again")
    page.unroute_all()
    page.click("#notice-act")
    expect(page.locator("#notice")).to_be_hidden()
    visit.forgive(500)


def test_a_server_that_is_gone_is_found_again(visit):
    page = visit.page
    page.route("**/*", lambda route: route.abort("connectionrefused"))
    page.locator("#cap").fill("2")
    expect(page.locator("#notice-title")).to_have_text("The server does not answer")
    page.clock.run_for(2500)
    expect(page.locator("#live-words")).to_have_text("The server does not answer. This page keeps asking.")
    page.unroute_all()
    page.clock.run_for(4000)
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("thead .is-yours")).to_contain_text("max_tape 2")
    expect(page.locator("#live-words")).to_contain_text("from the server's metrics")
    visit.problems = [problem for problem in visit.problems if "ERR_CONNECTION_REFUSED" not in problem]


def test_a_page_that_opens_before_the_server_waits_for_it(visit):
    page = visit.page
    page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
    page.reload()
    expect(page.locator("#notice-title")).to_have_text("The server does not answer")
    page.unroute_all()
    page.clock.run_for(4000)
    expect(page.locator("#classes li").first).to_be_visible()
    expect(page.locator("#notice")).to_be_hidden()
    visit.problems = [problem for problem in visit.problems if "ERR_CONNECTION_REFUSED" not in problem]


def test_a_server_that_wants_a_key_is_given_one(browser):
    key, kept = make_key(is_admin=False)
    with (
        start_server("--backend", "fake", "--require-auth", "--api-keys", f"someone={kept.line}") as running,
        visiting(browser, running) as visit,
    ):
        page = visit.page
        page.goto(visit.url)
        expect(page.locator("#notice-title")).to_have_text("The server asks for an API key")
        page.get_by_label("API key").fill("not-a-key")
        page.keyboard.press("Enter")
        expect(page.locator("#notice-text")).to_contain_text("got one that is not known")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#notice")).to_be_hidden()
        expect(page.locator("#classes li").first).to_be_visible()
        page.reload()
        expect(page.locator("#classes li").first).to_be_visible()
        visit.forgive(401)

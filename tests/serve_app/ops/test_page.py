"""The page in a browser, behind a token, without a cluster."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from playwright.sync_api import Browser

from serve_app.ops.collector import Collector
from serve_app.ops.guess_limit import GuessLimit
from serve_app.ops.login import Login
from serve_app.ops.web import build
from tests.serve_app.ops.builders import FakeCluster, router

TOKEN = "a long secret"  # noqa: S105
TIMEOUT_S = 30.0


MAX_WRONG = 2


@pytest.fixture
def address() -> Iterator[str]:
    """Of the application, on a port of the loopback."""
    collector = Collector(FakeCluster(router("a", r0=3, r1=1)), None)
    asyncio.run(collector.read())
    login = Login(TOKEN, guess_limit=GuessLimit(max_wrong=MAX_WRONG, clock=lambda: 0.0))
    server = uvicorn.Server(uvicorn.Config(build(collector, login), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + TIMEOUT_S
    while not server.started:
        assert time.monotonic() < deadline, "it does not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(TIMEOUT_S)


def test_figures_come_after_the_token(address: str, browser: Browser) -> None:
    """A wrong one gets a word, the right one the figures, and another visit needs none."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.get_by_label("Operators' token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("This is not the operators' token.").wait_for()
    assert page.locator("#prompts").count() == 0
    page.get_by_label("Operators' token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    assert page.locator("#prompts b").inner_text() == "4"
    another = context.new_page()
    another.goto(address)
    assert another.locator("#hit-rate b").inner_text() == "60.0 %"
    assert TOKEN not in str(context.cookies())


def test_who_guesses_is_told_to_wait(address: str, browser: Browser) -> None:
    """For how long; the right token is not looked at meanwhile."""
    page = browser.new_page()
    page.goto(address)
    for token in (*["wrong"] * MAX_WRONG, TOKEN):
        page.get_by_label("Operators' token").fill(token)
        with page.expect_response("**/api/login"):
            page.get_by_role("button", name="Log in").click()
    page.get_by_text("too many wrong tokens: try again in 60 s.").wait_for()
    assert page.locator("#prompts").count() == 0

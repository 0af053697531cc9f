"""The report as a page, in a browser."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from serve_app.audit import report_html
from serve_app.audit.checklist import checklist
from serve_app.audit.kind import KindName
from serve_app.audit.kinds import KINDS
from tests.serve_app.audit.logs import audited
from tests.serve_app.audit.test_kinds import AWS_KEY, KIND_TO_LOG

MIN_TOKENS, TARGET = 1024, 0.7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The page; made before there is a browser, which has an event loop of its own."""
    bodies = [*KIND_TO_LOG[KindName.VOLATILE], *KIND_TO_LOG[KindName.TOOL_ORDER], *KIND_TO_LOG[KindName.SECRET]]
    done = audited(tmp_path / "log.jsonl", bodies)
    path = tmp_path / "audit.html"
    path.write_text(report_html.as_html(done, KINDS, checklist(done, min_tokens=MIN_TOKENS, hit_rate_target=TARGET)))
    return path


def test_the_page_shows_what_was_found(path: Path, browser: Browser) -> None:
    """Pictures, findings and checklist, without a complaint, a foreign address or a prompt's text; on a phone, too."""
    page = browser.new_page(viewport={"width": 390, "height": 800})
    complaints: list[str] = []
    fetched: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(path.as_uri())
    assert fetched == [path.as_uri()]
    assert not complaints
    assert page.get_by_role("img", name="Tree of shared prefixes").locator("rect").count() >= 2
    assert page.get_by_role("img", name="Tokens saved by each remedy").locator("rect").count() >= 2
    assert page.get_by_role("row", name="Tools in another order").count() == 1
    assert page.get_by_text("AWS Access Key").count() == 1
    assert page.get_by_text("hit rate as it is").count() == 1
    content = page.content()
    assert AWS_KEY not in content
    assert "Rule 7" not in content
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, "the page scrolls sideways on a phone"
    page.close()

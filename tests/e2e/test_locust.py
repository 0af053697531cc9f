"""Locust in all its manners against the two replicas: the same sessions reuse the same share of their prompts."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from serve_app.control.running_application import RunningApplication
from serve_app.local.cluster import LocalRun
from tests.loadtests.locust_kit.builders import (
    Ended,
    end,
    run_distributed,
    run_locust,
    start_locust,
    wait_for_port,
)
from tests.servers import free_port

SESSIONS = ("--workload", "chat", "--sessions", "6", "--think-scale", "0", "-u", "2", "-r", "1", "--seed", "3")
LOOSE_SLOS = ("--cold-ttft-slo-ms", "60000", "--warm-ttft-slo-ms", "60000")
PAGE_TIMEOUT_MS = 60_000


@pytest.fixture(scope="module")
def headless(run: LocalRun, application: RunningApplication, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """One process, from empty caches on."""
    application.reset_caches()
    report = tmp_path_factory.mktemp("locust") / "report.json"
    return run_locust("--host", run.url, *SESSIONS, *LOOSE_SLOS, report=report)


@pytest.fixture
def emptied(application: RunningApplication) -> None:
    """Caches, before a browser is there, beside whose event loop Ray's calls cannot wait."""
    application.reset_caches()


def hit_rate(ended: Ended) -> float:
    """Of a run that met its SLOs and answered every request."""
    assert ended.code == 0, ended.output
    report = ended.report
    assert report is not None
    assert (report["sessions"], report["errors"], report["shed"]) == (6, {}, 0)
    return float(report["hit_rate"])


def test_a_run_without_a_page(headless: Ended) -> None:
    """Most of what chats send was sent before; both kinds of TTFT are there, and every answer was timed."""
    assert hit_rate(headless) > 0.6
    report = headless.report
    assert report is not None
    rows = report["rows"]
    assert rows["TTFT cold"]["count"] + rows["TTFT warm"]["count"] == report["complete"]
    assert rows["inter-token time"]["count"] == report["complete"]
    assert rows["chat"]["count"] == report["complete"]


def test_two_workers_reuse_as_much(
    run: LocalRun, application: RunningApplication, headless: Ended, tmp_path: Path
) -> None:
    """Split between them."""
    application.reset_caches()
    ended = run_distributed(
        *("--host", run.url, *SESSIONS, *LOOSE_SLOS), port=free_port(), report=tmp_path / "report.json"
    )
    assert hit_rate(ended) == pytest.approx(hit_rate(headless), abs=0.01)
    assert ended.report is not None
    assert headless.report is not None
    assert ended.report["prompt_tokens"] == headless.report["prompt_tokens"]


@pytest.mark.usefixtures("headless", "emptied")
def test_the_page_starts_a_run_and_shows_its_hit_rate(
    run: LocalRun, headless: Ended, tmp_path: Path, browser: Browser
) -> None:
    """Pressed in a browser; the same as without."""
    port, report = free_port(), tmp_path / "report.json"
    web = ("--web-host", "127.0.0.1", "--web-port", str(port))
    process = start_locust("--host", run.url, *SESSIONS, *LOOSE_SLOS, *web, "--report", str(report))
    try:
        wait_for_port(port)
        shown = _run_on_page(browser.new_page(), f"http://127.0.0.1:{port}/")
    finally:
        process.terminate()
        ended = end(process, report)
    assert hit_rate(ended) == pytest.approx(hit_rate(headless), abs=0.01)
    assert ended.report is not None
    assert shown == f"{ended.report['hit_rate']:.4f}"


def test_a_missed_slo_fails_the_run(run: LocalRun) -> None:
    """No first token comes within a microsecond."""
    ended = run_locust("--host", run.url, *SESSIONS, "--sessions", "1", "--warm-ttft-slo-ms", "0.001")
    assert ended.code == 1
    assert "FAIL: TTFT warm: p95 is " in ended.output


def _run_on_page(page: Page, url: str) -> str:
    """Start, wait for the end, and read the hit rate of the cache's tab."""
    page.set_default_timeout(PAGE_TIMEOUT_MS)
    with page.expect_response("**/stats/requests"):  # one that came after the start would undo it on the page
        page.goto(url)
    page.get_by_role("button", name="START").click()
    page.get_by_role("tab", name="Prompt cache").click()
    page.get_by_text("STOPPED").wait_for()
    page.get_by_role("cell", name="sessions ended").wait_for()
    return page.get_by_role("row", name="hit rate").get_by_role("cell").last.inner_text()

"""The operators' application beside two real replicas: its page in a browser, its figures, and its restart."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page

from serve_app.control.running_application import RunningApplication
from serve_app.control.serve_api import ray_token
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.local.cluster import LocalRun
from serve_app.ops.report import ApplicationReport, Overview
from serve_app.settings.schema import OPS_APPLICATION
from serve_app.settings.tenant_names import NONE, OTHER
from serve_app.telemetry import funnel_report
from tests.e2e.conftest import TENANT

TIMEOUT_S = 60.0
POLL_S = 0.2
PROMPT = "Everything that is known about the history of railways in the mountains, in order. " * 20
CONTRAST = 150
"""Of 255, at least."""
PHONE = {"width": 375, "height": 700}
Found = TypeVar("Found")


@pytest.fixture
def ops(run: LocalRun) -> Iterator[httpx.Client]:
    """Through HAProxy."""
    with httpx.Client(base_url=f"{run.url}/ops", timeout=30) as client:
        yield client


def ask(client: httpx.Client, model: str, *, times: int = 1) -> None:
    """So many prompts, with several blocks in common."""
    for number in range(times):
        body = {"model": model, "prompt": f"{PROMPT}{number}", "max_tokens": 2}
        client.post("/v1/completions", json=body).raise_for_status()


def report(ops: httpx.Client, window: str = "1y") -> ApplicationReport:
    """Of the application, over all that the page can show."""
    response = ops.get("/api/overview", params={"window": window})
    response.raise_for_status()
    (application,) = Overview.model_validate_json(response.content).applications
    return application


def read_again(ops: httpx.Client) -> ApplicationReport:
    """When it has read all routers twice from now on: what they had counted by now is in the sums."""

    def read_at_s() -> float:
        return Overview.model_validate_json(ops.get("/api/overview").raise_for_status().content).read_at_s or 0.0

    now_s = time.time()
    for _ in range(2):
        now_s = wait_until(read_at_s, partial(float.__lt__, now_s))
    return wait_until(lambda: report(ops), lambda found: found.figures.tokens.prompts > 0)


def test_its_sums_are_the_routers(
    ops: httpx.Client, client: httpx.Client, application: RunningApplication, run: LocalRun
) -> None:
    """Replica by replica, token by token, once everything has been read."""
    ask(client, run.model, times=6)
    for number in range(12):  # nothing in common, so that both replicas get some
        body = {"model": run.model, "prompt": f"{number}: {PROMPT}", "max_tokens": 2}
        client.post("/v1/completions", json=body).raise_for_status()
    found = read_again(ops)
    rank_to_funnel = funnel_report.by_rank(application.routers())
    for replica in found.replicas:
        # Routers that were replaced before this test are in the history, and not among those that are asked now.
        assert replica.figures.tokens.prompts >= rank_to_funnel[replica.rank].prompts
        assert replica.figures.tokens.offered == replica.figures.tokens.reused + sum(
            replica.figures.tokens.lost.values()
        )
        assert replica.figures.ttft.cold.number + replica.figures.ttft.warm.number > 0
    assert sum(replica.ring_share for replica in found.replicas) == pytest.approx(1)
    (hottest, *_) = wait_until(lambda: report(ops).prefixes, bool)
    assert hottest.tokens > 0
    assert hottest.ranks


def test_tenants_have_figures_of_their_own(ops: httpx.Client, client: httpx.Client, run: LocalRun) -> None:
    """By the gateway's header; names that are not in the settings together, and all of them make the whole."""
    before = tenant_to_prompts(read_again(ops))
    for headers in ({"x-tenant": TENANT}, {"x-tenant": TENANT}, {"x-tenant": "somebody"}, {}):
        body = {"model": run.model, "prompt": PROMPT, "max_tokens": 2}
        client.post("/v1/completions", json=body, headers=headers).raise_for_status()
    found = read_again(ops)
    after = tenant_to_prompts(found)
    assert {name: after[name] - before.get(name, 0) for name in after} == {TENANT: 2, OTHER: 1, NONE: 1}
    for name in ("prompts", "offered", "reused", "reachable"):
        of_tenants = sum(getattr(tenant.figures.tokens, name) for tenant in found.tenants)
        assert of_tenants == getattr(found.figures.tokens, name)


def tenant_to_prompts(found: ApplicationReport) -> dict[str, int]:
    """Of all time that the page can show."""
    return {tenant.name: tenant.figures.tokens.prompts for tenant in found.tenants}


def test_a_restart_loses_no_count(ops: httpx.Client, client: httpx.Client, run: LocalRun) -> None:
    """Killed, not asked; prompts come meanwhile."""
    ask(client, run.model)
    before = read_again(ops).figures.tokens
    process = ops_process()
    process.kill()
    process.wait(TIMEOUT_S)
    ask(client, run.model, times=3)
    after = read_again(ops).figures.tokens
    assert after.prompts == before.prompts + 3
    assert after.offered > before.offered


def ops_process() -> psutil.Process:
    """Its replica's."""
    processes = psutil.process_iter(["cmdline"])
    (process,) = (each for each in processes if OPS_APPLICATION in " ".join(each.info["cmdline"] or ()))
    return process


def wait_until(read: Callable[[], Found], is_right: Callable[[Found], bool]) -> Found:
    """What is read, once it is right; whoever is asked may be starting."""
    deadline = time.monotonic() + TIMEOUT_S
    last: Found | Exception
    while True:
        try:
            last = found = read()
        except (httpx.HTTPError, ValueError) as error:
            last = error
        else:
            if is_right(found):
                return found
        assert time.monotonic() < deadline, f"still {last}"
        time.sleep(POLL_S)


def opened(browser: Browser, run: LocalRun, complaints: list[str], **options: Any) -> Page:
    """The page, once it shows figures; all that its console says goes into `complaints`."""
    page = browser.new_page(**options)
    page.set_default_timeout(1000 * TIMEOUT_S)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
    page.goto(f"{run.url}/ops")  # without the last slash, as people type it
    page.locator("#prompts b").wait_for()
    return page


def test_the_page_follows_the_load(browser: Browser, client: httpx.Client, run: LocalRun) -> None:
    """Without a reload, and without a word in its console."""
    complaints: list[str] = []
    page = opened(browser, run, complaints)
    before = page.locator("#prompts b").inner_text()
    ask(client, run.model, times=3)
    page.wait_for_function("before => document.querySelector('#prompts b').innerText !== before", arg=before)
    assert page.locator("#replicas tbody tr").count() == 2
    page.locator("#tenants tbody tr", has_text=NONE).wait_for()
    assert "%" in page.locator("#hit-rate b").inner_text()
    assert "routing by prefix_affinity" in page.locator("#subtitle").inner_text()
    page.locator("#prefixes tbody tr").first.wait_for()
    page.locator("#rate-chart circle").first.wait_for(state="attached")
    page.get_by_role("button", name="24h").click()
    page.locator("button[aria-pressed=true]", has_text="24h").wait_for()
    assert page.locator("#status").inner_text() == "live"
    assert complaints == []


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Browser, run: LocalRun, color_scheme: Any) -> None:
    """Nothing is wider than the screen, and text stands out from its ground, in light and in dark."""
    complaints: list[str] = []
    page = opened(browser, run, complaints, viewport=PHONE, color_scheme=color_scheme)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"]
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        ".map(color => color.match(/\\d+/g).slice(0, 3).reduce((sum, each) => sum + Number(each), 0) / 3)"
    )
    dark, light = sorted((ground, ink))
    assert (dark, light) == ((ink, ground) if color_scheme == "light" else (ground, ink))
    assert light - dark > CONTRAST
    assert complaints == []


def test_the_ray_dashboard_shows_both_applications(browser: Browser, run: LocalRun) -> None:
    """On its Serve page, with the policy among the routers' settings."""
    token = ray_token()
    page = browser.new_page(extra_http_headers={} if token is None else {"Authorization": f"Bearer {token}"})
    page.set_default_timeout(1000 * TIMEOUT_S)
    page.goto(f"{run.dashboard_url}/#/serve")
    for name in (run.application, OPS_APPLICATION):
        page.get_by_role("link", name=name, exact=True).wait_for()
    page.get_by_role("row", name=ROUTER_DEPLOYMENT).get_by_text("View config").click()
    page.get_by_text("prefix_affinity").first.wait_for()

"""The operators' application over HTTP, on a fake cluster and a real history."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from router import Loss
from serve_app.ops.collector import Collector
from serve_app.ops.guess_limit import MAX_WRONG, WINDOW_S, GuessLimit
from serve_app.ops.login import SESSION_S, Login
from serve_app.ops.report import Figures, HistoryReport, Overview
from serve_app.ops.web import build
from serve_app.ops.windows import WINDOWS
from serve_app.telemetry.metrics import METRICS, OPS_METRICS
from tests.serve_app.ops.builders import PREFIX, FakeCluster, router

NOW_S = 1_800_000_000.0
TOKEN = "a long secret"  # noqa: S105


@pytest.fixture
def cluster() -> FakeCluster:
    """Two routers, which got prompts for both replicas."""
    return FakeCluster(router("a", r0=3), router("b", r0=1, r1=2))


@pytest_asyncio.fixture
async def collector(cluster: FakeCluster) -> Collector:
    """One that has read once."""
    collector = Collector(cluster, None, clock=lambda: NOW_S)
    await collector.read()
    return collector


@pytest_asyncio.fixture
async def client(collector: Collector) -> AsyncIterator[httpx.AsyncClient]:
    """Without a token, open to everybody."""
    async with client_of(collector, Login(None, is_open=True)) as client:
        yield client


@pytest_asyncio.fixture
async def guarded(collector: Collector) -> AsyncIterator[httpx.AsyncClient]:
    """With one."""
    async with client_of(collector, Login(TOKEN)) as client:
        yield client


def client_of(collector: Collector, login: Login, base_url: str = "http://ops") -> httpx.AsyncClient:
    """Of the application with this login."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(build(collector, login)), base_url=base_url)


async def overview_of(client: httpx.AsyncClient, **parameters: str) -> Overview:
    """As it answers."""
    response = await client.get("/api/overview", params=parameters)
    assert response.status_code == 200, response.text
    return Overview.model_validate_json(response.content)


def assert_adds_up(figures: Figures) -> None:
    """Every token is accounted for."""
    assert figures.tokens.offered == figures.tokens.reused + sum(figures.tokens.lost.values())


async def test_the_overview_says_how_it_is(client: httpx.AsyncClient) -> None:
    """Of the application, and of each replica."""
    overview = await overview_of(client)
    assert (overview.read_at_s, overview.window, overview.fault) == (NOW_S, "5m", None)
    (application,) = overview.applications
    assert (application.name, application.model, application.engine) == ("warmroute", "demo", "simulated")
    assert (application.policy, application.routers, application.decisions) == ("prefix_affinity", 2, {"prefix": 6})
    first, second = application.replicas
    assert (first.rank, first.replica, first.state, second.state) == (0, "r0", "ok", "silent")
    assert (first.waiting, first.running, first.pending_tokens, first.kv_use) == (1, 2, 120, 0.25)
    assert (first.held, first.ring_share) == (0.5, 0.5)
    assert [each.figures.tokens.prompts for each in application.replicas] == [4, 2]
    assert application.figures.tokens.prompts == 6
    rates = application.figures.hit_rates
    assert (rates.predicted, rates.actual, rates.reachable, rates.shared) == (0.8, 0.6, 0.8, 0.8)
    assert application.figures.ttft.warm.number == 6
    assert application.figures.ttft.warm.mean_s == pytest.approx(0.3)
    assert application.figures.ttft.cold.p50_s is None
    (prefix,) = application.prefixes
    assert prefix.model_dump() == {**msgspec.structs.asdict(PREFIX), "hash": prefix.hash}
    assert prefix.hash != PREFIX.hash
    (tenant,) = application.tenants
    assert (tenant.name, tenant.figures) == ("acme", application.figures)
    for figures in (application.figures, first.figures, second.figures):
        assert_adds_up(figures)


async def test_what_comes_later_is_added(client: httpx.AsyncClient, collector: Collector, cluster: FakeCluster) -> None:
    """By each look; a router that is replaced begins at nothing."""
    cluster.routers = [router("a", r0=5), router("new", r1=1)]
    await collector.read()
    (application,) = (await overview_of(client)).applications
    assert [each.figures.tokens.prompts for each in application.replicas] == [6, 3]


async def test_routers_that_do_not_answer_are_remembered(
    client: httpx.AsyncClient, collector: Collector, cluster: FakeCluster
) -> None:
    """The application is still there, and nothing is counted twice."""
    cluster.routers = []
    await collector.read()
    (application,) = (await overview_of(client)).applications
    assert application.figures.tokens.prompts == 6


async def test_history_is_in_buckets(client: httpx.AsyncClient) -> None:
    """One of them, so far, in each window."""
    for window in WINDOWS:
        response = await client.get("/api/history", params={"application": "warmroute", "window": window})
        history = HistoryReport.model_validate_json(response.content)
        (bucket,) = history.buckets
        assert history.start_s <= bucket.start_s <= history.end_s == NOW_S
        assert bucket.figures.tokens.prompts == 6
        assert_adds_up(bucket.figures)


async def test_an_unknown_window_is_named(client: httpx.AsyncClient) -> None:
    """With those that there are."""
    response = await client.get("/api/overview", params={"window": "2y"})
    assert response.status_code == 422
    assert response.json()["detail"] == "window = '2y': it is one of 5m, 1h, 24h, 7d, 28d, 1y"


WINDOWLESS = ("NaN", "inf", "-1", "1e999", "9" * 10_000, "\x00", "%ED%A0%80", "")


@pytest.mark.parametrize("window", WINDOWLESS)
async def test_no_number_is_a_window(client: httpx.AsyncClient, window: str) -> None:
    """Nor anything else that is none; the answer is short, whatever was asked."""
    for path in ("/api/overview", "/api/history?application=warmroute"):
        response = await client.get(httpx.URL(path).copy_merge_params({"window": window}))
        assert response.status_code == 422
        assert "it is one of 5m" in response.json()["detail"]
        assert len(response.content) < 200


async def test_what_can_be_asked_is_text(client: httpx.AsyncClient) -> None:
    """No parameter is a number that could be none; an application that is none has no history."""
    schema = (await client.get("/api/openapi.json")).json()
    parameters = [
        each
        for path in schema["paths"].values()
        for operation in path.values()
        for each in operation.get("parameters", ())
    ]
    assert {each["schema"]["type"] for each in parameters} == {"string"}
    for name in WINDOWLESS:
        response = await client.get("/api/history", params={"application": name})
        assert (response.status_code, response.json()["buckets"]) == (200, [])


async def test_a_history_that_cannot_be_opened_is_told(cluster: FakeCluster, tmp_path: Any) -> None:
    """The state of now is shown all the same."""
    collector = Collector(cluster, tmp_path, clock=lambda: NOW_S)
    await collector.read()
    async with client_of(collector, Login(None, is_open=True)) as client:
        overview = await overview_of(client)
    assert "cannot be used for the history" in str(overview.fault)
    assert overview.applications[0].replicas[0].pending_tokens == 120
    assert overview.applications[0].figures.hit_rates.actual is None


async def test_prometheus_reads_it(client: httpx.AsyncClient) -> None:
    """By the names and labels of the definitions, without prompts, hashes or ids."""
    response = await client.get("/metrics")
    families = {each.name: each for each in text_string_to_metric_families(response.text)}
    definitions = {each.name: each for each in (*METRICS, *OPS_METRICS)}
    assert families.keys() <= definitions.keys()
    for family in families.values():
        allowed = {"application", "le", *definitions[family.name].labels}
        assert family.documentation == definitions[family.name].description
        assert all(sample.labels.keys() <= allowed for sample in family.samples)

    def value(name: str, **labels: str) -> float:
        wanted = {"application": "warmroute", **labels}
        (sample,) = (
            sample
            for family in families.values()
            for sample in family.samples
            if sample.name == name and sample.labels == wanted
        )
        return sample.value

    assert value("warmroute_prompts_total", rank="0") == 4
    assert value("warmroute_prompt_tokens_total", rank="0", stage="offered") == 400
    assert value("warmroute_prompt_tokens_total", rank="1", stage="shared_reused") == 80
    lost = sum(value("warmroute_lost_tokens_total", rank="0", cause=cause.value) for cause in Loss)
    assert lost == 400 - value("warmroute_prompt_tokens_total", rank="0", stage="reused")
    assert value("warmroute_ttft_seconds_count", rank="0", cache="warm") == 4
    assert value("warmroute_ttft_seconds_bucket", rank="0", cache="warm", le="0.4") == 4
    assert value("warmroute_excluded", rank="1") == 1
    assert value("warmroute_tenant_prompts_total", tenant="acme") == 6
    assert value("warmroute_tenant_prompt_tokens_total", tenant="acme", stage="reused") == 360
    assert value("warmroute_tenant_lost_tokens_total", tenant="acme", cause="new") == 120
    assert value("warmroute_tenant_ttft_seconds_count", tenant="acme", cache="warm") == 6


async def test_the_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    """And forbids it."""
    page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name, kind in (("page.js", "javascript"), ("page.css", "css")):
        assert name in page.text
        asset = await client.get(f"/{name}")
        assert kind in asset.headers["content-type"]
        assert "http://" not in asset.text.replace("http://www.w3.org/2000/svg", "")
    assert "http" not in page.text.replace("http-equiv", "")


async def test_the_schema_names_every_answer(client: httpx.AsyncClient) -> None:
    """With a description of each of its paths."""
    schema = (await client.get("/api/openapi.json")).json()
    assert set(schema["paths"]) == {"/api/login", "/api/overview", "/api/history", "/metrics"}
    for path in ("/api/overview", "/api/history"):
        answer = schema["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert answer["$ref"].removeprefix("#/components/schemas/") in schema["components"]["schemas"]
        assert schema["paths"][path]["get"]["description"]


PROTECTED = ("/api/overview", "/api/history?application=warmroute", "/metrics")


@pytest.mark.parametrize("path", PROTECTED)
async def test_figures_are_behind_the_token(guarded: httpx.AsyncClient, path: str) -> None:
    """Without it nothing, with it everything; a wrong one is no better than none."""
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}, {"cookie": "warmroute_ops=x"}):
        response = await guarded.get(path, headers=headers)
        assert response.status_code == 401, headers
        assert TOKEN not in response.text
    assert (await guarded.get(path, headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200


async def test_the_form_gets_a_cookie_for_the_token(guarded: httpx.AsyncClient) -> None:
    """Which is not the token, and which scripts cannot read."""
    assert (await guarded.get("/")).status_code == 200
    refused = await guarded.post("/api/login", json={"token": "wrong"})
    assert (refused.status_code, refused.headers.get("set-cookie")) == (401, None)
    taken = await guarded.post("/api/login", json={"token": TOKEN})
    assert taken.status_code == 204
    cookie = taken.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    for path in PROTECTED:
        assert (await guarded.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ('{"token": "\\ud800"}', 401),
        ('{"token": NaN}', 422),
        ('{"token": 1e999}', 422),
        ('{"token": ["' + "x" * 100_000 + '"]}', 422),
        ('{"token"', 422),
        ("", 422),
    ],
)
async def test_what_is_no_token_is_refused(guarded: httpx.AsyncClient, content: str, status: int) -> None:
    """In a few words."""
    response = await guarded.post("/api/login", content=content, headers={"content-type": "application/json"})
    assert response.status_code == status
    assert response.json()["detail"]
    assert len(response.content) < 1000


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/api/openapi.json"])
async def test_what_has_no_figures_is_open(guarded: httpx.AsyncClient, path: str) -> None:
    """Or nobody could log in."""
    assert (await guarded.get(path)).status_code == 200


async def test_without_a_token_all_is_closed_unless_told_otherwise(
    client: httpx.AsyncClient, collector: Collector
) -> None:
    """The page as well, which says what to do."""
    async with client_of(collector, Login(None)) as closed:
        for path in (*PROTECTED, "/", "/page.js", "/api/openapi.json", "/nowhere"):
            response = await closed.get(path)
            assert response.status_code == 403, path
            assert "WARMROUTE_OPS_TOKEN" in response.json()["detail"]
            assert "ops.open: true" in response.json()["detail"]
            assert response.headers["cache-control"] == "no-store"
        assert (await closed.post("/api/login", json={"token": ""})).status_code == 403
    for path in PROTECTED:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_login_ends_by_itself(collector: Collector, scheme: str) -> None:
    """In the browser and here. The cookie is for this path, and over TLS for TLS only."""
    now_s = NOW_S
    login = Login(TOKEN, clock=lambda: now_s)
    async with client_of(collector, login, f"{scheme}://ops") as client:
        cookie = (await client.post("/api/login", json={"token": TOKEN})).headers["set-cookie"]
        wanted = {f"Max-Age={SESSION_S}", "HttpOnly", "SameSite=strict", "Path=/"}
        assert {each.strip() for each in cookie.split(";")[1:]} == wanted | ({"Secure"} if scheme == "https" else set())
        assert (await client.get("/metrics")).status_code == 200
        now_s += SESSION_S
        assert (await client.get("/metrics", headers={"cookie": cookie.partition(";")[0]})).status_code == 401


async def test_wrong_tokens_have_to_wait(collector: Collector) -> None:
    """By the form and as a header alike, from the address that the last proxy names; whoever is logged in has not."""
    login = Login(TOKEN, guess_limit=GuessLimit(clock=lambda: 0.0))
    from_there = {"x-forwarded-for": "198.51.100.7, 192.0.2.1"}
    async with client_of(collector, login) as client, client_of(collector, login) as logged_in:
        assert (await logged_in.post("/api/login", json={"token": TOKEN}, headers=from_there)).status_code == 204
        for number in range(MAX_WRONG):
            headers = from_there | {"x-forwarded-for": f"{number}, 192.0.2.1"}
            if number % 2:
                response = await client.post("/api/login", json={"token": str(number)}, headers=headers)
            else:
                response = await client.get("/metrics", headers=headers | {"authorization": f"Bearer {number}"})
            assert response.status_code == 401
        for response in (
            await client.post("/api/login", json={"token": TOKEN}, headers=from_there),
            await client.get("/metrics", headers=from_there | {"authorization": f"Bearer {TOKEN}"}),
        ):
            assert response.status_code == 429
            assert response.headers["retry-after"] == str(int(WINDOW_S))
            assert response.json()["detail"] == "too many wrong tokens: try again in 60 s"
            assert "set-cookie" not in response.headers
        assert (await client.get("/metrics", headers=from_there)).status_code == 401
        assert (await logged_in.get("/metrics", headers=from_there)).status_code == 200
        assert (await client.post("/api/login", json={"token": TOKEN})).status_code == 204

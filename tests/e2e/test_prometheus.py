"""A real Prometheus scrapes the running server: every query of the dashboard finds data, every rule is understood."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve_app.control.running_application import RunningApplication
from serve_app.control.serve_api import ServeApi
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.local.cluster import LocalRun
from serve_app.telemetry.alerts import alerts, rules
from serve_app.telemetry.dashboard import panels
from tests.conftest import Require
from tests.servers import free_port

TARGETS = "prom_metrics_service_discovery.json"
"""Ray writes there where its metrics are, in Prometheus's own form."""
TIMEOUT_S = 120.0
POLL_S = 0.5
OPS_QUERIES = (
    "sum by (application) (warmroute_prompts_total) > 0",
    'sum by (tenant) (warmroute_tenant_prompt_tokens_total{stage="offered"}) > 0',
    'histogram_quantile(0.5, sum by (le, cache) (warmroute_ttft_seconds_bucket{cache="warm"})) > 0',
)
PREFIX = "Tell me everything that you know about the weather in the mountains. " * 40


@pytest.fixture
def prometheus(run: LocalRun, tmp_path: Path, require: Require) -> Iterator[httpx.Client]:
    """With our alert rules, on a port of its own."""
    binary = shutil.which("prometheus")
    require(binary is not None, "prometheus: install Debian's package prometheus")
    assert binary is not None
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules()))
    targets = Path(run.ray_session).parent / TARGETS
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [
            {"job_name": "ray", "file_sd_configs": [{"files": [str(targets)]}]},
            {
                "job_name": "ops",
                "metrics_path": "/ops/metrics",
                "static_configs": [{"targets": [httpx.URL(run.url).netloc.decode()]}],
            },
        ],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={tmp_path / 'prometheus.yaml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=10, trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def shadows(api: ServeApi, application: RunningApplication, run: LocalRun) -> Iterator[Any]:
    """Changes the live policy and its shadow; as before when it is over."""
    before = application.policy()

    def change(policy: str, *shadows: str) -> None:
        api.change_routing(run.application, {"shadow_policies": shadows}, router_deployment=ROUTER_DEPLOYMENT)
        application.set_policy(policy)
        deadline = time.monotonic() + TIMEOUT_S
        while any(router.shadows.keys() != set(shadows) for router in application.routers()):
            assert time.monotonic() < deadline, f"the routers have other shadows than {shadows}"
            time.sleep(POLL_S)

    yield change
    change(before)


def wait_for(prometheus: httpx.Client, path: str, **params: str) -> Any:
    """An answer that is not empty."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            data = prometheus.get(f"/api/v1/{path}", params=params).raise_for_status().json()["data"]
        except httpx.HTTPError:  # it starts
            data = {}
        found = data.get("result") or data.get("groups")
        if found:
            return found
        assert time.monotonic() < deadline, f"nothing for {path} {params}"
        time.sleep(POLL_S)


@pytest.mark.timeout(600)
def test_every_query_of_the_dashboard_finds_data(
    prometheus: httpx.Client, client: httpx.Client, run: LocalRun, shadows: Any
) -> None:
    """After prompts that are shared, unreadable, and placed worse and better than another policy would."""

    def ask(prompt: str | list[str]) -> None:
        body = {"model": run.model, "prompt": prompt, "max_tokens": 2}
        client.post("/v1/completions", json=body).raise_for_status()

    shadows("prefix_affinity", "round_robin")
    for number in range(6):
        ask(f"{PREFIX} {number}")
    ask(["two prompts", "in one request"])
    shadows("round_robin", "prefix_affinity")
    for number in range(6):
        ask(f"{PREFIX} and {number}")
    for panel in panels():
        for query in panel.legend_to_query.values():
            found = wait_for(prometheus, "query", query=query.replace("$application", run.application))
            assert {each["metric"]["application"] for each in found} == {run.application}
    for query in OPS_QUERIES:
        assert wait_for(prometheus, "query", query=query)
    [group] = wait_for(prometheus, "rules")
    assert {each["name"] for each in group["rules"]} == {each.name for each in alerts()}
    assert {each["health"] for each in group["rules"]} <= {"ok", "unknown"}
    firing = [each["labels"]["alertname"] for each in prometheus.get("/api/v1/alerts").json()["data"]["alerts"]]
    assert "WarmrouteKeysBroken" not in firing

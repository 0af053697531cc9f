"""Operating a running server."""

import subprocess
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from benchmarks.cost.route_cost.applications import wait_for_router_ports
from serve_app.control.running_application import RunningApplication
from serve_app.control.serve_api import ServeApi
from serve_app.edge.options import TOKEN_HEADER, edge_token
from serve_app.local.cluster import LocalRun
from serve_app.messages.response_headers import POLICY_HEADER
from tests.e2e.conftest import demo_settings
from tests.servers import COMMAND

ENGINE = demo_settings()["llm"]["engine_kwargs"]
KV_CAPACITY_TOKENS = ENGINE["num_gpu_blocks_override"] * ENGINE["block_size"]


def process_ids(api: ServeApi, run: LocalRun) -> set[tuple[str, int]]:
    """Every replica's and router's id and process."""
    application = api.application(run.application)
    assert application is not None
    return {
        (replica["replica_id"], replica["pid"])
        for deployment in application["deployments"].values()
        for replica in deployment["replicas"]
    }


def test_the_policy_changes_without_a_restart(
    client: httpx.Client, run: LocalRun, api: ServeApi, application: RunningApplication, folder: Path
) -> None:
    """By the command, on every router, with the same processes before and after; and back."""
    before = process_ids(api, run)
    assert len(before) == 4
    for policy in ("least_loaded", "prefix_affinity"):
        subprocess.run([*COMMAND, "policy", policy], cwd=folder, check=True, timeout=60)
        application.set_policy(policy)  # returns once every router has it
        body = {"model": run.model, "prompt": "x", "max_tokens": 1}
        answers = [client.post("/v1/completions", json=body) for _ in range(4)]
        assert {answer.headers[POLICY_HEADER] for answer in answers} == {policy}
    assert process_ids(api, run) == before


def test_routers_agree_on_what_is_where(application: RunningApplication) -> None:
    """Both see both replicas, with the capacity that the engines have."""
    routers = application.routers()
    assert len(routers) == 2
    assert routers[0].replicas.keys() == routers[1].replicas.keys()
    for router in routers:
        assert sorted(replica.rank for replica in router.replicas.values()) == [0, 1]
        assert {replica.kv_capacity_tokens for replica in router.replicas.values()} == {KV_CAPACITY_TOKENS}


def test_decisions_pass_serves_own_handling_by(run: LocalRun, application: RunningApplication) -> None:
    """Serve gives each answer that it handles a request's id."""
    before = sum(sum(router.decisions.values()) for router in application.routers())
    ports = wait_for_router_ports(run.run_dir, [run.application], num_routers=2)[run.application]
    for port in ports:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as router:
            handled = router.get("/-/healthz")
            body = {"model": run.model, "prompt": "x", "max_tokens": 1}
            refused = router.post("/internal/route", json=body)
            decided = router.post("/internal/route", json=body, headers={TOKEN_HEADER: edge_token()})
        assert "x-request-id" in handled.headers
        assert refused.status_code == HTTPStatus.FORBIDDEN
        assert "x-request-id" not in decided.headers
        assert decided.json()["replica_id"].startswith("SERVE_REPLICA::")
    after = sum(sum(router.decisions.values()) for router in application.routers())
    assert after - before == len(ports) == 2


def test_a_second_server_is_refused_in_a_sentence(folder: Path, run: LocalRun, tmp_path: Path) -> None:
    """The ports are taken, by us."""
    assert run.url
    result = subprocess.run(
        [*COMMAND, "serve", folder / "settings.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "port 8000, 8265, 8404, 8500, 9101 is taken on this machine" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.timeout(600)
def test_the_demo_prints_its_table(folder: Path, run: LocalRun) -> None:
    """Both policies, every figure, and the policy as it was before."""
    assert run.url
    command = [*COMMAND, "demo", "--sessions", "4", "--concurrency", "4", "--repetitions", "1", "--max-tokens", "2"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr
    for expected in ("round_robin", "prefix_affinity", "TTFT ms", "Working set", "95 % interval"):
        assert expected in result.stdout

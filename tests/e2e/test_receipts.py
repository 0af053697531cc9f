"""What the routers know of requests under way, and of those that are over."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.harness.running_server import Server
from router import Loss
from serve_app.control.running_application import RunningApplication
from serve_app.local.cluster import LocalRun
from serve_app.messages.snapshot import EngineSnapshot, ReplicaSnapshot
from serve_app.telemetry.funnel_report import add_up, by_rank
from tests.e2e.request_lines import wait_for_line
from tests.mixed_requests import send_mix
from tests.request_mix import is_as_expected, request_mix
from tests.servers import ROOT

DEADLINE_S = 60


def wait_for(application: RunningApplication, is_so: Callable[[list[ReplicaSnapshot]], bool]) -> None:
    """Until every router's view of the replicas is as wanted."""
    deadline = time.monotonic() + DEADLINE_S
    while not all(is_so(list(router.replicas.values())) for router in application.routers()):
        assert time.monotonic() < deadline, application.routers()
        time.sleep(0.1)


def engine_of(replica: ReplicaSnapshot) -> EngineSnapshot:
    """The replica's own numbers; none before its first heartbeat."""
    return replica.engine or EngineSnapshot()


def is_decoding(replicas: list[ReplicaSnapshot]) -> bool:
    """One request, past its prefill."""
    counts = {"pending_tokens": 0, "waiting": 0, "running": 1}
    return {name: sum(getattr(replica, name) for replica in replicas) for name in counts} == counts


def test_an_answer_given_at_once_is_running_from_its_first_token_on(
    client: httpx.Client, run: LocalRun, application: RunningApplication
) -> None:
    """The client sees nothing until the end; the routers hear of the engine's first output."""
    application.wait_until_idle()
    body = {"model": run.model, "prompt": "Tell me " * 200, "max_tokens": 1500, "ignore_eos": True}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, "/v1/completions", json=body)
        wait_for(application, is_decoding)
        assert answer.result().json()["usage"]["completion_tokens"] == 1500
    application.wait_until_idle()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1500}),
        ("/v1/completions", {"prompt": "Hello", "max_tokens": 1500}),
    ],
)
def test_the_engine_stops_when_the_client_of_a_whole_answer_leaves(
    run: LocalRun, application: RunningApplication, path: str, fields: dict[str, Any]
) -> None:
    """Through HAProxy. Far fewer tokens were computed than were asked for, and nobody counts the request any more."""
    application.wait_until_idle()
    trace_id = uuid.uuid4().hex
    body = json.dumps({"model": run.model, "ignore_eos": True, **fields}).encode()
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: warmroute",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Traceparent: 00-{trace_id}-00f067aa0ba902b7-01",
    )
    head = "\r\n".join((*lines, "", ""))
    url = httpx.URL(run.url)
    with socket.create_connection((url.host, url.port), timeout=DEADLINE_S) as client:
        client.sendall(head.encode() + body)
        wait_for(application, is_decoding)
    application.wait_until_idle()
    wait_for(application, lambda replicas: all(engine_of(replica).running == 0 for replica in replicas))
    assert 0 < wait_for_line(run, trace_id)["answer_tokens"] < 1000


def test_replicas_report_their_engines_numbers(
    client: httpx.Client, run: LocalRun, application: RunningApplication
) -> None:
    """Running requests and KV use while it runs, totals afterwards; heard of all the time.

    These come with heartbeats, so what was reported last may be older than the last request's end.
    """

    def prompt_tokens(replicas: list[ReplicaSnapshot]) -> int:
        return sum(engine_of(replica).prompt_tokens for replica in replicas)

    def is_idle(replicas: list[ReplicaSnapshot]) -> bool:
        return all((engine_of(replica).running, engine_of(replica).kv_use) == (0, 0) for replica in replicas)

    wait_for(application, is_idle)
    before = prompt_tokens(list(application.routers()[0].replicas.values()))
    body = {"model": run.model, "prompt": "Tell me " * 200, "max_tokens": 1500, "ignore_eos": True, "stream": True}

    def is_busy(replicas: list[ReplicaSnapshot]) -> bool:
        return any(engine_of(replica).running == 1 and (engine_of(replica).kv_use or 0) > 0 for replica in replicas)

    with client.stream("POST", "/v1/completions", json=body) as response:
        chunks = response.iter_lines()
        next(chunks)
        wait_for(application, is_busy)
    wait_for(application, lambda replicas: is_idle(replicas) and prompt_tokens(replicas) > before)
    for router in application.routers():
        assert all(
            replica.heard_s_ago is not None and replica.heard_s_ago < DEADLINE_S and replica.excluded is None
            for replica in router.replicas.values()
        )
        assert router.refused == {}


@pytest.mark.timeout(600)
def test_mixed_requests_leave_nothing_behind_and_add_up_to_vllms_own_counters(
    run: LocalRun, application: RunningApplication
) -> None:
    """Streaming and not, aborted, refused, n=2, lists: 0 outstanding in every router, totals equal to 0.1 %."""
    mix = request_mix(200, model=run.model, seed=7, prefill_tokens=12_000)
    result = asyncio.run(send_mix(Server(run, application), mix, concurrency=12))
    assert result.after.ours, "the routers' snapshots have no engine totals"
    assert result.faults() == []
    assert [exchange for exchange in result.exchanges if not is_as_expected(exchange)] == []


def test_the_funnel_accounts_for_every_prompt_token(
    client: httpx.Client, run: LocalRun, application: RunningApplication
) -> None:
    """Two turns of one conversation: what the answers say was cached is what the routers, together, count as reused."""
    application.wait_until_idle()
    before = add_up(by_rank(application.routers()).values())
    messages = [{"role": "user", "content": "Tell me of the weather in the north. " * 40}]
    usages = []
    for _ in range(2):
        body = {"model": run.model, "messages": messages, "max_tokens": 8}
        answer = client.post("/v1/chat/completions", json=body).json()
        usages.append(answer["usage"])
        messages += [answer["choices"][0]["message"], {"role": "user", "content": "And in the south?"}]
    application.wait_until_idle()
    after = add_up(by_rank(application.routers()).values())
    after.check_integrity()
    assert after.prompts - before.prompts == 2
    assert after.offered - before.offered == sum(usage["prompt_tokens"] for usage in usages)
    reused = sum((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0 for usage in usages)
    assert after.reused - before.reused == reused > 0
    assert after.lost.get(Loss.MISMATCH, 0) == before.lost.get(Loss.MISMATCH, 0)


def test_the_replicas_are_shown(folder: Path, application: RunningApplication) -> None:
    """Once, by a command beside the running server: as many prompts as the routers count."""
    command = [sys.executable, "-m", "warmroute", "top", "--once"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    application.wait_until_idle()
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    total = add_up(by_rank(application.routers()).values())
    assert f"{total.prompts:,}" in next(line for line in result.stdout.splitlines() if " all " in line)
    assert "2 routers; decisions:" in result.stdout


def test_the_funnel_is_printed(folder: Path) -> None:
    """By a command beside the running server."""
    command = [sys.executable, "-m", "warmroute", "funnel"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "reused" in result.stdout
    assert "By replica" in result.stdout
    assert "100.0%" in result.stdout

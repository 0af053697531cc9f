"""KV events on a whole server: engines that empty their caches without a word to the routers.

Engines are simulated ones, whose scheduler, cache and events are vLLM's own. `make test` runs it by itself, because a
machine has room for one server at a time.
"""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks.harness.running_server import Server
from serve_app.control.running_application import RunningApplication
from serve_app.local.cluster import LocalRun
from tests.emptied_caches import Answer, measure, wrong
from tests.servers import serving, shipped_settings

pytestmark = [pytest.mark.own_process, pytest.mark.timeout(900)]
WAIT_S = 1.0


def test_routers_know_of_it_within_a_second(tmp_path: Path) -> None:
    """Each prediction afterwards is right, of what is computed again, too."""
    settings = shipped_settings("simulated.yaml")
    settings["llm"]["deployment_config"]["num_replicas"] = 2
    settings["replicas"] |= {"kv_events": True}
    # Ray reads once in a process how to join a cluster, and other tests may have made it do so before.
    with (
        serving(settings, tmp_path) as run,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process,
    ):
        known_by, answers = process.submit(measured, run).result()
    assert known_by == {"kv_events"}
    assert len(answers) == 60
    assert wrong(answers) == []
    assert any(answer.cached for answer in answers), "nothing was used again"


def measured(run: LocalRun) -> tuple[set[str], list[Answer]]:
    """How the routers know of the replicas' caches, and the answers."""
    with RunningApplication(
        run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url
    ) as application:
        answers = asyncio.run(measure(Server(run, application), 40, 60, wait_s=WAIT_S, seed=1))
        known_by = {replica.knowledge for router in application.routers() for replica in router.replicas.values()}
    return known_by, answers

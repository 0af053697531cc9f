"""Our policy in Serve's hands: its context, its configuration, its delays."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from router import RequestId
from serve_app.autoscaling.policy import ReplicaWork
from serve_app.autoscaling.serve_policy import UncachedWorkPolicy, replica_loads
from serve_app.autoscaling.stats import ARRIVED_TOKENS, KV_USE, WAITING_TOKENS
from serve_app.messages.receipts import EngineState
from serve_app.replica.running_requests import RunningRequests
from serve_app.settings.schema import AUTOSCALING_POLICY

OPTIONS = {"prefill_tokens_per_s": 1000, "prefill_use": 0.5}
EXAMPLE = f"""
min_replicas: 2
max_replicas: 12
policy:
  policy_function: {AUTOSCALING_POLICY}
  policy_kwargs: {{prefill_tokens_per_s: 1000, prefill_use: 0.5}}
"""


def series(*values: float, step_s: float = 6) -> list[Any]:
    """As a replica's metric reaches the policy."""
    from ray.serve._private.common import TimeStampedValue

    return [TimeStampedValue(1_000 + number * step_s, value) for number, value in enumerate(values)]


def make_context(metrics: dict[str, dict[Any, list[Any]]], *, running: int = 2, target: int = 2) -> Any:
    """Ray's own."""
    from ray.serve.config import AutoscalingConfig, AutoscalingContext

    return AutoscalingContext(
        deployment_id=None,
        deployment_name="llm",
        app_name="warmroute",
        current_num_replicas=running,
        target_num_replicas=target,
        running_replicas=[],
        total_num_requests=3.0,
        total_queued_requests=0.0,
        aggregated_metrics=None,
        raw_metrics=lambda: metrics,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=10,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=1_030.0,
        config=AutoscalingConfig(min_replicas=1, max_replicas=10, upscale_delay_s=0),
    )


def test_loads_are_read_from_series() -> None:
    """A rate from the ends, what waits at last, memory on average; who said something once only is left out."""
    metrics = {
        ARRIVED_TOKENS: {"a": series(100, 400, 700), "b": series(50)},
        WAITING_TOKENS: {"a": series(0, 10, 20), "b": series(5)},
        KV_USE: {"a": series(0.2, 0.4)},
    }
    (load,) = replica_loads(metrics)
    assert load == ReplicaWork(arriving_tokens_per_s=50, waiting_tokens=20, kv_use=pytest.approx(0.3))


def test_wanted_from_a_context() -> None:
    """600 tokens a second over half of 1,000 on each of two replicas."""
    metrics = {ARRIVED_TOKENS: {"a": series(0, 3600), "b": series(0, 3600)}}
    assert UncachedWorkPolicy(**OPTIONS)(make_context(metrics)) == (3, {})


@pytest.mark.parametrize(
    "metrics", [{}, {ARRIVED_TOKENS: {}}, {"running_requests": {"a": []}}, {ARRIVED_TOKENS: {"a": []}}]
)
def test_without_metrics_the_target_stays(metrics: dict[str, dict[Any, list[Any]]]) -> None:
    """Also while a replica is on its way."""
    assert UncachedWorkPolicy(**OPTIONS)(make_context(metrics, running=2, target=5)) == (5, {})


def test_a_mistake_in_the_options_is_named() -> None:
    """When Serve makes the policy."""
    with pytest.raises(ValidationError, match="prefill_speed"):
        UncachedWorkPolicy(prefill_speed=3, **OPTIONS)


def test_serve_finds_it_by_its_name_and_applies_delays_and_bounds() -> None:
    """From YAML, by way of a pickle, as the controller does."""
    from ray.serve._private.autoscaling_state import _resolve_policy_callable
    from ray.serve.autoscaling_policy import _apply_autoscaling_config
    from ray.serve.config import AutoscalingConfig

    config = AutoscalingConfig(**yaml.safe_load(EXAMPLE))
    policy = _resolve_policy_callable(config.policy)
    context = make_context({ARRIVED_TOKENS: {"a": series(0, 3600), "b": series(0, 3600)}})
    assert policy(context) == (3, {})
    decided, state = _apply_autoscaling_config(policy)(context)
    assert decided == 3
    context.config = config  # whose upscale_delay_s is 30
    decided, state = _apply_autoscaling_config(policy)(context)
    assert decided == 2
    assert state["__decision_counters"] == 1


def test_hits_are_no_work() -> None:
    """Twice the prompt tokens with the same ones uncached: the same figures from a running."""
    figures = []
    for prompt_tokens in (1_000, 2_000):
        running = RunningRequests(lambda _: None, clock=lambda: 0.0)
        running.engine_stepped(EngineState(waiting=0, running=1, kv_use=0.3))
        running.arrived(RequestId("one"), uncached_tokens=300)
        running.prefilled(RequestId("one"), prompt_tokens=prompt_tokens, cached_tokens=prompt_tokens - 250)
        running.arrived(RequestId("two"), uncached_tokens=70)
        figures.append(running.work.as_metrics())
    assert figures[0] == figures[1] == {ARRIVED_TOKENS: 320, WAITING_TOKENS: 70, KV_USE: 0.3}


async def test_the_replica_answers_serves_hook_from_its_running_requests() -> None:
    """Numbers by name, as Serve demands of it."""
    from serve_app.replica.deployment import LLMReplica

    running = RunningRequests(lambda _: None, clock=lambda: 0.0)
    running.arrived(RequestId("one"), uncached_tokens=300)
    serving: asyncio.Future[Any] = asyncio.Future()
    serving.set_result(SimpleNamespace(running=running))
    replica = SimpleNamespace(_serving=serving)
    assert await LLMReplica.record_autoscaling_stats(replica) == {ARRIVED_TOKENS: 300, WAITING_TOKENS: 300}


def test_bounds_alone_never_add_a_replica_of_an_llm() -> None:
    """Ray Serve LLM's own target is so high; docs/operate/autoscaling.md says so."""
    from ray.llm._internal.serve.core.server.builder import DEFAULT_DEPLOYMENT_OPTIONS

    assert DEFAULT_DEPLOYMENT_OPTIONS["autoscaling_config"]["target_ongoing_requests"] >= 1e9

"""What routers count and export."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from router import CacheRecord, Loss, ReplicaId, RequestId, RoutingDecision, ShadowChoice, ShadowFault, ShadowTotals
from router.types import Reason
from serve_app.messages.receipts import EngineState, Status
from serve_app.parity.verdicts import Verdict
from serve_app.prompt.body import Unreadable
from serve_app.telemetry.metrics import METRICS, OPS_METRICS, SHADOWS
from tests.builders import BLOCK_SIZE, make_request, make_router

if TYPE_CHECKING:
    from serve_app.ingress.counters import RouterMetrics

HERE, THERE = ReplicaId("here"), ReplicaId("there")
Exported = dict[tuple[str, ...], float]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Exported:
    """What Ray's counters were given, by name and labels."""
    from ray.util import metrics

    record = metrics.Counter.inc
    counts: Exported = defaultdict(float)

    def inc(counter: Any, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        record(counter, value, tags)  # which refuses unknown tags and amounts that are not above zero
        assert tags is not None
        counts[counter.info["name"], *tags.values()] += value

    monkeypatch.setattr(metrics.Counter, "inc", inc)
    return counts


@pytest.fixture
def router_metrics(exported: Exported) -> "RouterMetrics":  # noqa: ARG001  in this order
    """Two policies in the shadow of one."""
    from serve_app.ingress.counters import RouterMetrics

    result = RouterMetrics("warmroute")
    result.shadows.start(["chwbl", "random"])
    return result


def decision(*answers: ShadowChoice | ShadowFault, policy: str = "prefix_affinity") -> RoutingDecision:
    """A decision for one replica, with its shadows' answers."""
    return RoutingDecision(RequestId("a"), HERE, policy, Reason.RING, 10, 0, 0, answers)


def test_each_shadow_is_summed_up_and_exported(router_metrics: "RouterMetrics", exported: Exported) -> None:
    """Agreements, regret and gain; nothing is exported of what did not happen."""
    router_metrics.shadows.on_decision(decision(ShadowChoice("chwbl", THERE, 5.5), ShadowChoice("random", HERE, 0)))
    router_metrics.shadows.on_decision(decision(ShadowChoice("chwbl", THERE, -2), ShadowChoice("random", THERE, 1)))
    assert router_metrics.shadows.policy_to_totals == {
        "chwbl": ShadowTotals(decisions=2, agreements=0, regret_tokens=5.5, gain_tokens=2, failures=0),
        "random": ShadowTotals(decisions=2, agreements=1, regret_tokens=1, gain_tokens=0, failures=0),
    }
    router_metrics.export()
    assert exported == {
        ("warmroute_shadow_decisions", "prefix_affinity", "chwbl"): 2,
        ("warmroute_shadow_regret_tokens", "prefix_affinity", "chwbl"): 5.5,
        ("warmroute_shadow_gain_tokens", "prefix_affinity", "chwbl"): 2,
        ("warmroute_shadow_decisions", "prefix_affinity", "random"): 2,
        ("warmroute_shadow_agreements", "prefix_affinity", "random"): 1,
        ("warmroute_shadow_regret_tokens", "prefix_affinity", "random"): 1,
    }


def test_a_failure_is_counted_always_and_logged_once(
    router_metrics: "RouterMetrics", exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback; again only after the settings were applied again."""
    fault = ShadowFault("chwbl", ValueError("belief is gone"))
    for _ in range(3):
        router_metrics.shadows.on_decision(decision(fault))
    assert router_metrics.shadows.policy_to_totals["chwbl"] == ShadowTotals(failures=3)
    router_metrics.export()
    assert exported == {("warmroute_shadow_failures", "prefix_affinity", "chwbl"): 3}
    assert [record.getMessage() for record in caplog.records] == ["The shadow policy chwbl failed and is out"]
    assert "belief is gone" in caplog.text
    router_metrics.shadows.start(["chwbl"])
    router_metrics.shadows.on_decision(decision(fault))
    assert len(caplog.records) == 2


def test_new_settings_begin_the_totals_again(router_metrics: "RouterMetrics", exported: Exported) -> None:
    """With zeros for each; what was exported goes on, apart for each live policy."""
    answer = ShadowChoice("chwbl", HERE, 0)
    router_metrics.shadows.on_decision(decision(answer))
    router_metrics.shadows.start(["chwbl"])
    assert router_metrics.shadows.policy_to_totals == {"chwbl": ShadowTotals()}
    router_metrics.shadows.on_decision(decision(answer, policy="random"))
    router_metrics.export()
    assert exported["warmroute_shadow_decisions", "prefix_affinity", "chwbl"] == 1
    assert exported["warmroute_shadow_decisions", "random", "chwbl"] == 1


def test_every_total_has_a_counter() -> None:
    """Or adding a field to the totals would fail on the first decision."""
    assert set(ShadowTotals.__slots__) <= SHADOWS.keys()


def test_metrics_have_names_of_their_own() -> None:
    """And descriptions, for who reads them in Prometheus."""
    metrics = (*METRICS, *OPS_METRICS)
    assert len({each.name for each in metrics}) == len(metrics)
    assert all(each.name.startswith("warmroute_") and each.description.endswith(".") for each in metrics)


def test_without_shadows_nothing_happens(router_metrics: "RouterMetrics", exported: Exported) -> None:
    """The default."""
    router_metrics.shadows.start([])
    router_metrics.shadows.on_decision(decision())
    router_metrics.export()
    assert (router_metrics.shadows.policy_to_totals, exported) == ({}, {})


def test_where_prompt_tokens_went_is_exported(router_metrics: "RouterMetrics", exported: Exported) -> None:
    """By rank, stage and cause; what is zero is left out, as Ray refuses it."""
    for tenant in ("", "acme"):
        router_metrics.funnel.on_record(
            CacheRecord(RequestId("a"), HERE, "m", tenant, 10, 4, 0, 0, {Loss.SPILLED: 4, Loss.NEW: 6}, shared=3),
            0.3,
            rank=3,
        )
    router_metrics.export()
    assert exported == {
        ("warmroute_prompts", "3"): 2,
        ("warmroute_prompt_tokens", "3", "offered"): 20,
        ("warmroute_prompt_tokens", "3", "reachable"): 8,
        ("warmroute_prompt_tokens", "3", "shared"): 6,
        ("warmroute_lost_tokens", "3", "spilled"): 8,
        ("warmroute_lost_tokens", "3", "new"): 12,
    }
    totals = router_metrics.funnel.totals
    assert totals.by_rank[3].funnel.lost == {Loss.SPILLED: 8, Loss.NEW: 12}
    assert totals.by_tenant.keys() == {"acme"}
    assert totals.by_tenant["acme"].funnel.lost == {Loss.SPILLED: 4, Loss.NEW: 6}
    ttft = totals.by_rank[3].ttft
    assert (ttft.cold.number, ttft.cold.sum_s, ttft.warm.number) == (2, 0.6, 0)


def test_nothing_is_exported_twice(router_metrics: "RouterMetrics", exported: Exported) -> None:
    """And everything once."""
    for _ in range(3):
        router_metrics.on_unreadable(Unreadable.NOT_JSON)
        router_metrics.export()
    router_metrics.export()
    assert exported == {("warmroute_unreadable_prompts", "not_json"): 3}
    assert router_metrics.reason_to_unreadable == {"not_json": 3}


def test_sampled_requests_are_counted_by_rank_and_by_whether_they_agree(
    router_metrics: "RouterMetrics", exported: Exported
) -> None:
    """So that a rate of differences can be seen."""
    for agrees in (True, True, False):
        router_metrics.parity.on_sample(1, agrees=agrees)
    router_metrics.export()
    assert exported == {("warmroute_sampled_keys", "1", "ok"): 2, ("warmroute_sampled_keys", "1", "template"): 1}


def test_each_replicas_verdict_is_shown_until_it_is_another(
    router_metrics: "RouterMetrics", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renewed each time, because Ray forgets; what is over is 0, once. While one replaces another, two share a rank."""
    from ray.util import metrics

    shown = list[tuple[float, str, str]]()

    def record(_: object, value: float, tags: dict[str, str]) -> None:
        shown.append((value, tags["rank"], tags["verdict"]))

    monkeypatch.setattr(metrics.Gauge, "set", record)
    for by_rank, expected in (
        ([(0, Verdict.OK), (1, Verdict.OK)], {(1, "0", "ok"), (1, "1", "ok")}),
        ([(0, Verdict.OK), (1, Verdict.OK)], {(1, "0", "ok"), (1, "1", "ok")}),
        ([(0, Verdict.OK), (0, Verdict.OK), (1, Verdict.SALT)], {(2, "0", "ok"), (0, "1", "ok"), (1, "1", "salt")}),
        ([], {(0, "0", "ok"), (0, "1", "salt")}),
        ([], set[tuple[float, str, str]]()),
    ):
        shown.clear()
        router_metrics.parity.show(by_rank)
        assert set(shown) == expected
        assert len(shown) == len(expected)


def test_replicas_are_shown_as_the_router_sees_them(
    router_metrics: "RouterMetrics", monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two tells of its KV events, and then no more; the other has been silent, and has a prompt to compute."""
    from ray.util import metrics

    shown = dict[tuple[str, ...], float]()

    def record(gauge: Any, value: float, tags: dict[str, str]) -> None:
        shown[gauge.info["name"].removeprefix("warmroute_"), *tags.values()] = value

    monkeypatch.setattr(metrics.Gauge, "set", record)
    router = make_router(num_replicas=2)
    first, second = (each.replica_id for each in router.cluster.replicas)
    router.on_heard(second, is_serving=True, now=0)
    router.on_heard(first, is_serving=False, now=0)
    router.on_blocks_cleared(second)
    status = Status({}, True, 0, 0, {}, 0, 0, EngineState(waiting=0, running=1, kv_use=0.25))  # noqa: FBT003
    router_metrics.show_replicas(router, {second: status}, now=0)
    assert shown == {
        ("cache_knowledge", "0", "receipts"): 1,
        ("cache_knowledge", "1", "kv_events"): 1,
        ("pending_tokens", "0"): 0,
        ("pending_tokens", "1"): 0,
        ("excluded", "0"): 1,
        ("excluded", "1"): 0,
        ("kv_use", "1"): 0.25,
    }
    router.choose(make_request("a", 1, 2), now=0)
    router.on_events_lost(second)
    router_metrics.show_replicas(router, {}, now=0)
    assert shown["cache_knowledge", "1", "kv_events"] == 0
    assert shown["cache_knowledge", "1", "receipts"] == 1
    assert shown["pending_tokens", "1"] == 2 * BLOCK_SIZE + 1


def test_what_peers_did_not_hear_is_counted_once(router_metrics: "RouterMetrics", exported: Exported) -> None:
    """From a total that only grows."""
    for total in (0, 3, 3, 5):
        router_metrics.show_undelivered(total)
        router_metrics.export()
    assert exported == {("warmroute_undelivered_reservations",): 5}

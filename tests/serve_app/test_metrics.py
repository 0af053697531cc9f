"""What routers count and export."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from router import CacheRecord, Loss, ReplicaId, RequestId, RoutingDecision, ShadowChoice, ShadowFault, ShadowTotals
from router.types import Reason

if TYPE_CHECKING:
    from serve_app.metrics import ShadowMetrics

HERE, THERE = ReplicaId("here"), ReplicaId("there")
Exported = dict[tuple[str, str, str], float]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Exported:
    """What Ray's counters were given, by name, live policy and shadow."""
    from ray.util import metrics

    record = metrics.Counter.inc
    counts: Exported = defaultdict(float)

    def inc(counter: Any, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        record(counter, value, tags)  # which refuses unknown tags and amounts that are not above zero
        assert tags is not None
        counts[counter.info["name"], tags["policy"], tags["shadow"]] += value

    monkeypatch.setattr(metrics.Counter, "inc", inc)
    return counts


@pytest.fixture
def shadows(exported: Exported) -> "ShadowMetrics":  # noqa: ARG001  in this order
    """Two policies in the shadow of one."""
    from serve_app.metrics import ShadowMetrics

    shadow_metrics = ShadowMetrics()
    shadow_metrics.start(["chwbl", "random"])
    return shadow_metrics


def decision(*answers: ShadowChoice | ShadowFault, policy: str = "prefix_affinity") -> RoutingDecision:
    """One that went here."""
    return RoutingDecision(RequestId("a"), HERE, policy, Reason.RING, 10, 0, 0, answers)


def test_each_shadow_is_summed_up_and_exported(shadows: "ShadowMetrics", exported: Exported) -> None:
    """Agreements, regret and gain; nothing is exported of what did not happen."""
    shadows.on_decision(decision(ShadowChoice("chwbl", THERE, 5.5), ShadowChoice("random", HERE, 0)))
    shadows.on_decision(decision(ShadowChoice("chwbl", THERE, -2), ShadowChoice("random", THERE, 1)))
    assert shadows.snapshot() == {
        "chwbl": {"decisions": 2, "agreements": 0, "regret_tokens": 5.5, "gain_tokens": 2, "failures": 0},
        "random": {"decisions": 2, "agreements": 1, "regret_tokens": 1, "gain_tokens": 0, "failures": 0},
    }
    assert exported == {
        ("warmroute_shadow_decisions", "prefix_affinity", "chwbl"): 2,
        ("warmroute_shadow_regret_tokens", "prefix_affinity", "chwbl"): 5.5,
        ("warmroute_shadow_gain_tokens", "prefix_affinity", "chwbl"): 2,
        ("warmroute_shadow_decisions", "prefix_affinity", "random"): 2,
        ("warmroute_shadow_agreements", "prefix_affinity", "random"): 1,
        ("warmroute_shadow_regret_tokens", "prefix_affinity", "random"): 1,
    }


def test_a_failure_is_counted_always_and_logged_once(
    shadows: "ShadowMetrics", exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback; again only after the settings were applied anew."""
    fault = ShadowFault("chwbl", ValueError("belief is gone"))
    for _ in range(3):
        shadows.on_decision(decision(fault))
    assert shadows.snapshot()["chwbl"] == {
        "decisions": 0,
        "agreements": 0,
        "regret_tokens": 0,
        "gain_tokens": 0,
        "failures": 3,
    }
    assert exported == {("warmroute_shadow_failures", "prefix_affinity", "chwbl"): 3}
    assert [record.getMessage() for record in caplog.records] == ["The shadow policy chwbl failed and is out"]
    assert "belief is gone" in caplog.text
    shadows.start(["chwbl"])
    shadows.on_decision(decision(fault))
    assert len(caplog.records) == 2


def test_new_settings_begin_the_snapshot_again(shadows: "ShadowMetrics", exported: Exported) -> None:
    """With zeros for each; what was exported goes on, apart for each live policy."""
    answer = ShadowChoice("chwbl", HERE, 0)
    shadows.on_decision(decision(answer))
    shadows.start(["chwbl"])
    assert shadows.snapshot() == {
        "chwbl": {"decisions": 0, "agreements": 0, "regret_tokens": 0, "gain_tokens": 0, "failures": 0}
    }
    shadows.on_decision(decision(answer, policy="random"))
    assert exported["warmroute_shadow_decisions", "prefix_affinity", "chwbl"] == 1
    assert exported["warmroute_shadow_decisions", "random", "chwbl"] == 1


def test_every_total_has_a_counter(shadows: "ShadowMetrics") -> None:
    """Or adding a field to the totals would fail on the first decision."""
    assert shadows._counters.keys() == set(ShadowTotals.__slots__)


def test_without_shadows_nothing_happens(shadows: "ShadowMetrics", exported: Exported) -> None:
    """The default."""
    shadows.start([])
    shadows.on_decision(decision())
    assert (shadows.snapshot(), exported) == ({}, {})


def test_where_prompt_tokens_went_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """By stage and cause; what is zero is left out, as Ray refuses it."""
    from ray.util import metrics

    from serve_app.metrics import FunnelMetrics

    counts: dict[tuple[str, str], float] = defaultdict(float)

    def inc(counter: Any, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        assert value > 0
        assert tags is not None
        counts[counter.info["name"], next(iter(tags.values()))] += value

    monkeypatch.setattr(metrics.Counter, "inc", inc)
    funnel = FunnelMetrics()
    for _ in range(2):
        funnel.on_record(CacheRecord(RequestId("a"), HERE, "m", "t", 10, 4, 0, 0, {Loss.SPILLED: 4, Loss.NEW: 6}))
    assert counts == {
        ("warmroute_prompt_tokens", "offered"): 20,
        ("warmroute_prompt_tokens", "reachable"): 8,
        ("warmroute_lost_tokens", "spilled"): 8,
        ("warmroute_lost_tokens", "new"): 12,
    }
    assert funnel.snapshot()["lost"] == {"spilled": 8, "new": 12}

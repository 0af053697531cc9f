"""What each routing knows, and what it needs to run."""

import pytest

from loadtests.bench import routings
from loadtests.bench.options import read_routings
from loadtests.bench.routings import RAY_ROUTINGS, ROUTING_NAMES, RayRouting, knowledge
from loadtests.replay.options import OptionError


@pytest.mark.parametrize(
    ("routing", "has_kv_events", "knows", "not_"),
    [
        ("round_robin", True, "nothing", "KV events"),
        ("session_hash", True, "header", "KV events"),
        ("least_loaded", True, "receipts", "KV events"),
        ("prefix_affinity", False, "receipts", "KV events"),
        ("prefix_affinity", True, "KV events", "header"),
        ("sglang_cache_aware", False, "sent", "KV events"),
        ("ray_prefix", True, "nothing", "KV events"),
        ("ray_prefix_learning", True, "text", "KV events"),
        ("ray_kv_aware", False, "KV events", "receipts"),
    ],
)
def test_what_a_routing_knows(routing: str, *, has_kv_events: bool, knows: str, not_: str) -> None:
    """KV events where replicas send them to who reads them: to ours by a setting, to Ray's by its own."""
    known = knowledge(routing, has_kv_events=has_kv_events)
    assert knows in known
    assert not_ not in known


def test_every_routing_says_what_it_knows() -> None:
    """In words."""
    assert all(knowledge(each, has_kv_events=False) for each in ROUTING_NAMES)


def test_a_routing_whose_package_is_missing_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It exists all the same, and the others are as they were."""

    def absent(name: str) -> str:
        if name == "ai-dynamo-runtime":
            raise routings.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(routings, "version", absent)
    assert read_routings(["prefix_affinity", "ray_prefix"]) == ("prefix_affinity", "ray_prefix")
    with pytest.raises(OptionError, match=r"ray_kv_aware needs ai-dynamo-runtime, which is not installed: pip install"):
        read_routings(["prefix_affinity", "ray_kv_aware"])


def test_without_ray_its_routings_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """With which `bench` itself would work, too."""

    def absent(name: str) -> str:
        raise routings.PackageNotFoundError(name)

    monkeypatch.setattr(routings, "version", absent)
    with pytest.raises(
        OptionError, match=r'ray_prefix needs ray, which is not installed: pip install "warmroute\[cpu\]"'
    ):
        read_routings(["ray_prefix"])


def test_where_nothing_is_missing_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one of them, with its package there."""
    monkeypatch.setattr(routings, "version", lambda _: "1.6.1")
    assert [each.missing for each in RAY_ROUTINGS.values()] == [""] * len(RAY_ROUTINGS)
    assert RayRouting("x", "y", "z").missing == ""

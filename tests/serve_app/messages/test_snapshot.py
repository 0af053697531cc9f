"""A snapshot on its way from one process to another, perhaps of another version."""

import json

import msgspec
import pytest

from router import CacheRecord, Loss, ReplicaId, RequestId, ShadowTotals
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.snapshot import HotPrefix, ReaderSnapshot, RouterSnapshot, Totals, short_id
from tests.snapshots import engine, replica, router


def full() -> RouterSnapshot:
    """A snapshot with something in every field."""
    record = CacheRecord(RequestId("a"), ReplicaId("r"), "m", "t", 100, 60, 60, 40, {Loss.EVICTED: 20, Loss.NEW: 40})
    totals = PromptTotals()
    totals.add(record, 0.3)
    return router(
        "a",
        {"app#LLM#one": replica(3, engine=engine(prompt=7, uncounted_tokens={"aborted": 3}), excluded="silent")},
        decisions={"ring": 2},
        shadows={"chwbl": ShadowTotals(decisions=2, gain_tokens=1.5)},
        prompts=ReaderSnapshot(tokenizer="fastokens", fast_texts=2, chats={"is_exact": True, "bytes": 9}),
        totals=Totals(by_rank={3: totals}, by_tenant={"t": totals}),
        hot_prefixes=[HotPrefix(hash="00ff", tokens=32, work_share=0.5, fan_out=1, ranks=[3])],
    )


def test_it_comes_back_from_plain_data() -> None:
    """Whole; and what is in between is JSON's own kinds of data, as another version expects it."""
    plain = full().as_plain()
    assert RouterSnapshot.from_plain(plain) == full()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["accounts"]["rank"]["3"]["funnel"]["lost"] == {"evicted": 20, "new": 40}
    assert plain["accounts"]["tenant"]["t"]["ttft"]["cold"]["sum_s"] == 0.3


def test_another_version_may_tell_more() -> None:
    """At any depth; the reader passes it over."""
    plain = full().as_plain()
    for place in (plain, plain["replicas"]["app#LLM#one"], plain["replicas"]["app#LLM#one"]["engine"]):
        place["new_in_the_next_version"] = [1]
    assert RouterSnapshot.from_plain(plain) == full()


def test_what_an_earlier_version_does_not_tell_has_a_default() -> None:
    """Where a field was added later."""
    plain = full().as_plain()
    del plain["hot_prefixes"], plain["replicas"]["app#LLM#one"]["engine"]["external_cached_tokens"]
    snapshot = RouterSnapshot.from_plain(plain)
    assert snapshot.hot_prefixes == []
    assert snapshot.replicas["app#LLM#one"].engine == msgspec.structs.replace(
        engine(prompt=7), uncounted_tokens={"aborted": 3}
    )


def test_what_is_no_snapshot_is_told_by_what_it_lacks() -> None:
    """Not by a missing key somewhere later."""
    plain = full().as_plain()
    del plain["replicas"]["app#LLM#one"]["rank"]
    with pytest.raises(msgspec.ValidationError, match=r"`rank`.*replicas"):
        RouterSnapshot.from_plain(plain)


def test_ids_are_shortened_to_what_tells_them_apart() -> None:
    """As Serve's API and Ray's metrics have them; a router's is short already."""
    assert short_id("SERVE_REPLICA::warmroute#LLMReplica#0f9lq8kl") == "0f9lq8kl"
    assert short_id("0f9lq8kl") == "0f9lq8kl"

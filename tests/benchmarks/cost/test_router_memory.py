"""ManyConversations that can be made again from their number, and what counts as a fault of memory."""

from dataclasses import replace
from itertools import pairwise

import orjson
import pytest

from benchmarks.cost.router_memory import (
    CORE_MIB,
    FLAT_MIB,
    MAX_TURNS,
    MEMO_FACTOR,
    TOKENIZER_MIB,
    ManyConversations,
    MemorySample,
    faults,
)
from serve_app.demo.model import WORKLOAD

NUM_CONVERSATIONS = 400
MIB = 64.0
START = MemorySample(200, 200, 600, 1, 1, forms=1, stretches=0, cached_blocks=9)
FULL = replace(START, conversations=1000, resident_mib=670, memo_mib=63.9, peak_memo_mib=64)


def bodies(seed: int) -> list[tuple[bool, bytes]]:
    """Of all conversations."""
    words = (WORKLOAD / "corpus.txt").read_text(encoding="utf-8").split()
    return list(ManyConversations(words, number=NUM_CONVERSATIONS, seed=seed).bodies())


def test_the_same_seed_gives_the_same_conversations() -> None:
    """And another one others."""
    assert bodies(1) == bodies(1)
    assert bodies(1) != bodies(2)


def test_every_conversation_is_distinct_and_some_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later turn begins with all messages of the turn before; some bring tools of their own, again with each turn."""
    monkeypatch.setattr("benchmarks.cost.router_memory.MEAN_AGE", 20)
    monkeypatch.setattr("benchmarks.cost.router_memory.OWN_TOOLS", 0.2)
    first_to_turns: dict[str, list[dict[str, object]]] = {}
    num_new = 0
    for is_new, body in bodies(1):
        fields = orjson.loads(body)
        turns = first_to_turns.setdefault(fields["messages"][0]["content"], [])
        assert is_new == (not turns)
        turns.append(fields)
        num_new += is_new
    assert num_new == len(first_to_turns) == NUM_CONVERSATIONS
    assert 1 < max(map(len, first_to_turns.values())) <= MAX_TURNS
    assert any("tools" in turns[0] for turns in first_to_turns.values())
    for turns in first_to_turns.values():
        for before, after in pairwise(turns):
            assert after["messages"][: len(before["messages"])] == before["messages"]  # type: ignore[index,arg-type]
            assert after.get("tools") == before.get("tools")


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (FULL, None),
        (replace(FULL, peak_memo_mib=64.1), "accounted for"),
        (replace(FULL, resident_mib=600 + MEMO_FACTOR * MIB + TOKENIZER_MIB + CORE_MIB + 1), "resident memory grew"),
        (replace(FULL, resident_mib=670 + FLAT_MIB + 1), "full, it grew"),
        (replace(FULL, memo_mib=30), None),
    ],
)
def test_a_fault_is_named(last: MemorySample, words: str | None) -> None:
    """More than the setting accounted for, or much more resident, or growing on."""
    found = faults([START, FULL, last], mib=MIB)
    assert any(words in fault for fault in found) if words else found == []


def test_a_memo_that_was_never_full_proves_nothing() -> None:
    """So it is said."""
    assert faults([START, replace(START, conversations=300)], mib=MIB) != []

"""The self-test's probes, and a run of them."""

import orjson
import pytest

from serve_app.parity.self_test import CHAT, CHAT_BLOCKS, Probe, make_probes, probes_of
from tests.serve_app.parity.self_test_engine import ADAPTER, BLOCK_SIZE, MODEL, Engine, tokens_of


@pytest.mark.parametrize("block_size", [1, 16, 32, 128, 1056])
def test_each_probe_has_at_least_three_blocks(block_size: int) -> None:
    """Where a word is a token, and so wherever it is more."""
    for probe in make_probes(model=MODEL, adapter=ADAPTER, nonce="n", block_size=block_size):
        assert len(tokens_of(probe.body)) > CHAT_BLOCKS * block_size


def test_probes_cost_an_engine_little_and_vary_nothing_else() -> None:
    """One token of answer; no seed."""
    for probe in make_probes(model=MODEL, adapter="", nonce="n", block_size=BLOCK_SIZE):
        assert (probe.body["model"], probe.body["max_tokens"], probe.body["temperature"]) == (MODEL, 1, 0)
        assert "seed" not in probe.body


def test_one_chat_has_all_that_a_template_may_render() -> None:
    """System prompt, tools, a tool call and its result."""
    bodies = [probe.body for probe in make_probes(model=MODEL, adapter="", nonce="n", block_size=16)]
    (agents,) = (body for body in bodies if "tools" in body)
    assert [message["role"] for message in agents["messages"]] == ["system", "user", "assistant", "tool"]


async def test_a_run_can_be_rebuilt_from_its_report() -> None:
    """By a router, which makes the same bodies byte for byte; and every run has its own."""
    asked, engine = list[Probe](), Engine()

    async def ask(probe: Probe) -> None:
        asked.append(probe)

    engine.ask = ask  # type: ignore[method-assign, assignment]
    first, second = await engine.report(), await engine.report()
    rebuilt = [*probes_of(first), *probes_of(second)]
    assert [orjson.dumps(tuple(each)) for each in asked] == [orjson.dumps(tuple(each)) for each in rebuilt]
    assert first.nonce != second.nonce
    assert first.results == (None,) * len(probes_of(first))


async def test_a_model_without_adapters_is_asked_by_one_name_only() -> None:
    """One probe less."""
    without, with_adapter = await Engine().report(adapter=""), await Engine().report()
    assert {probe.body["model"] for probe in probes_of(without)} == {MODEL}
    assert len(with_adapter.results) == len(without.results) + 1
    assert [path for path, body in probes_of(with_adapter) if body["model"] == ADAPTER] == [CHAT]


async def test_a_repeated_probe_that_finds_nothing_is_asked_once_more() -> None:
    """The caches may have been reset between the two."""
    engine = Engine()
    engine.forgets_before = {1}
    report = await engine.report()
    repeated = report.results[1]
    assert repeated is not None
    assert repeated.cached_tokens > 0


async def test_it_says_whether_there_were_others() -> None:
    """Who may have evicted what it cached."""
    assert (await Engine().report(is_crowded=True)).was_crowded
    assert not (await Engine().report()).was_crowded

"""Our order of waiting in vLLM's own scheduler: one request runs at a time, with an answer of one token."""

from pathlib import Path
from typing import Any

import pytest

from tests.loadtests.vllm_scheduler import VllmScheduler

pytestmark = [pytest.mark.usefixtures("vllm"), pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")]


def make_scheduler(folder: Path, **options: Any) -> VllmScheduler:
    """Blocks of one token, room for everything."""
    sizes = {"num_blocks": 20_000, "max_step_tokens": 4_000, "max_sequences": 1}
    return VllmScheduler(folder, **{**sizes, "waiting_order": "shortest", **options})


def tokens(first: int, num_tokens: int) -> list[int]:
    """Token ids of a prompt; two prompts have none in common unless they start alike."""
    return [first, *(first + index for index in range(1, num_tokens))]


def order_of(scheduler: VllmScheduler, names: str) -> str:
    """The order in which requests with these names end."""
    ended = ""
    while len(ended) < len(names):
        scheduler.step()
        ended += "".join(name for name in names if name not in ended and scheduler.is_over(name))
    return ended


def test_the_shortest_goes_next(tmp_path: Path) -> None:
    """And vLLM's own scheduler lets them go as they came."""
    ended = {}
    for waiting_order in ("arrival", "shortest"):
        scheduler = make_scheduler(tmp_path, waiting_order=waiting_order)
        for name, first, num_tokens in (("a", 0, 3000), ("b", 10_000, 1000), ("c", 20_000, 100)):
            scheduler.submit(name, tokens(first, num_tokens), 1)
        ended[waiting_order] = order_of(scheduler, "abc")
    assert ended == {"arrival": "abc", "shortest": "cba"}


def test_what_is_cached_counts_when_it_is_cached(tmp_path: Path) -> None:
    """The longest prompt begins like the one that goes first, and then is shorter than the other."""
    scheduler = make_scheduler(tmp_path)
    scheduler.submit("a", tokens(0, 1500), 1)
    scheduler.submit("b", tokens(10_000, 3000), 1)
    scheduler.submit("c", [*tokens(0, 1500), *tokens(30_000, 1600)], 1)
    assert order_of(scheduler, "abc") == "acb"


def test_a_running_prompt_goes_on(tmp_path: Path) -> None:
    """Though it is longer than what comes in between: two steps, then the short one."""
    scheduler = make_scheduler(tmp_path)
    scheduler.submit("a", tokens(0, 7_000), 1)
    assert scheduler.step() == 4_000
    scheduler.submit("b", tokens(10_000, 10), 1)
    assert scheduler.step() == 3_000
    assert order_of(scheduler, "ab") == "ab"


def test_a_lower_priority_value_goes_first(tmp_path: Path) -> None:
    """The order is within equal priorities, if vLLM heeds these; otherwise they say nothing."""
    ended = {}
    for has_priorities in (False, True):
        scheduler = make_scheduler(tmp_path, has_priorities=has_priorities)
        requests = (("a", 1, 3000), ("b", 1, 2000), ("c", 1, 100), ("d", 0, 2500), ("e", 0, 1000), ("f", -1, 4000))
        for number, (name, priority, num_tokens) in enumerate(requests):
            scheduler.submit(name, tokens(10_000 * number, num_tokens), 1, priority=priority)
        ended[has_priorities] = order_of(scheduler, "abcdef")
    assert ended == {False: "ceabdf", True: "fedcab"}


def test_who_leaves_is_forgotten(tmp_path: Path) -> None:
    """Waiting or running; the others go on."""
    scheduler = make_scheduler(tmp_path)
    for number, name in enumerate("abc"):
        scheduler.submit(name, tokens(10_000 * number, 1000 - 100 * number), 1)
    scheduler.abort("b")
    assert scheduler.num_waiting == 2
    scheduler.step()
    scheduler.abort("c")
    assert order_of(scheduler, "a") == "a"
    assert scheduler.num_waiting == 0
    assert scheduler.step() == 0


def test_who_is_preempted_goes_before_shorter_ones(tmp_path: Path) -> None:
    """The memory fits two prompts, not their answers: the second starts again before the shortest gets its turn."""
    scheduler = make_scheduler(tmp_path, num_blocks=120, max_sequences=2)
    for number, name in enumerate("ab"):
        scheduler.submit(name, tokens(10_000 * number, 50), 30)
    scheduler.step()
    scheduler.submit("c", tokens(30_000, 10), 1)
    while not scheduler.num_preempted:
        scheduler.step()
    while not scheduler.is_over("a"):
        assert scheduler.num_waiting == 2
        scheduler.step()
    scheduler.step()
    assert scheduler.running_names[0] == "b"


def test_who_waits_for_a_grammar_is_in_vllms_own_queue(tmp_path: Path) -> None:
    """It starts as soon as the grammar is there, whatever its length, as vLLM has it."""
    scheduler = make_scheduler(tmp_path)
    scheduler.submit("a", tokens(0, 7000), 1, choices=["yes"])
    scheduler.submit("b", tokens(10_000, 100), 1)
    scheduler.submit("c", tokens(20_000, 200), 1)
    assert scheduler.num_waiting == 2
    scheduler.step()
    assert scheduler.is_over("b")
    scheduler.compile_grammar("a")
    scheduler.step()
    assert scheduler.running_names == ["a"]

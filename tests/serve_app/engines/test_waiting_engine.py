"""Our order of waiting under vLLM's own front end: a simulated engine whose steps overlap with their scheduling.

`make test` runs it in a process of its own, because vLLM leaves some of itself behind in one.
"""

import asyncio
from typing import Any

import pytest

from serve_app.engines.options import SCHEDULER
from tests.serve_app.simulated_engines import ask, running_engine

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore"),  # vLLM's own, of an engine that is started in this process
]


async def test_short_prompts_overtake_long_ones_that_wait() -> None:
    """One sequence at a time: behind the first, the last goes before the two long ones, and all are answered."""
    ended: list[str] = []

    async def ask_and_note(engine: Any, name: str, token_ids: list[int], max_tokens: int) -> int:
        answer = await ask(engine, name, token_ids, max_tokens=max_tokens)
        ended.append(name)
        return len(answer.outputs[0].token_ids)

    with running_engine(scheduler_cls=SCHEDULER, max_num_seqs=1) as engine:
        numbers = await asyncio.gather(
            ask_and_note(engine, "runs", list(range(500, 600)), 200),
            ask_and_note(engine, "long", list(range(1000, 1900)), 5),
            ask_and_note(engine, "longer", list(range(2000, 2950)), 5),
            ask_and_note(engine, "short", list(range(3000, 3040)), 5),
        )
    assert numbers == [200, 5, 5, 5]
    assert ended == ["runs", "short", "long", "longer"]

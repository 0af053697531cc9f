"""A hang of vLLM's own engine, with its worker simulated and in a process of its own.

`make test` runs it in a process of its own, because vLLM leaves some of itself behind in one.
"""

import asyncio
import os
from multiprocessing import connection
from typing import Any

import psutil
import pytest

from serve_app.replica.engine_pulse import EnginePulse
from serve_app.replica.running_requests import RunningRequests
from serve_app.replica.vllm_outputs import EngineWatch
from tests.serve_app.simulated_engines import ask, running_engine

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore"),  # vLLM's own, of an engine that is started in this process
]

MAX_MISSED = 3
BEAT_S = 0.1
STEP_S = 0.05
MAX_TOKENS = 900
"""In so many steps, it is not over before the engine is stopped."""


@pytest.mark.parametrize("hangs", ["engine", "worker"])
async def test_an_engine_that_hangs_is_found_and_ends(hangs: str) -> None:
    """The scheduler's process is stopped, or the worker for which it waits, as for a device that never answers.

    Before that, it goes round while it is idle and while it decodes. Afterwards its request has vLLM's error, routers
    are told, and no process is left.
    """
    from vllm.v1.engine.exceptions import EngineDeadError

    running = RunningRequests(lambda _: None, clock=lambda: 0.0)
    watch = EngineWatch(running)
    with running_engine(step_s=STEP_S, distributed_executor_backend="mp") as engine:
        watch.attach(engine.output_processor)
        watch.watch_processes(engine.engine_core.resources.engine_manager)
        pulse = EnginePulse(engine.is_paused, max_missed=MAX_MISSED)
        await beat_answered(pulse, engine)
        answering = asyncio.create_task(ask(engine, "endless", list(range(100)), max_tokens=MAX_TOKENS))
        await beat_answered(pulse, engine)
        assert not pulse.is_lost
        (process,) = engine.engine_core.resources.engine_manager.processes
        scheduler = psutil.Process(process.pid)
        workers = scheduler.children(recursive=True)
        assert workers
        processes = [os.pidfd_open(each.pid) for each in (scheduler, *workers)]
        for each in workers if hangs == "worker" else [scheduler]:
            each.suspend()
        while not pulse.is_lost:
            await asyncio.sleep(BEAT_S)
            pulse.beat()
        assert running.is_serving
        watch.give_up(EngineDeadError())
        with pytest.raises(EngineDeadError):
            await answering
        for each in processes:
            assert await asyncio.to_thread(has_ended, each)
            os.close(each)
    assert not running.is_serving


async def beat_answered(pulse: EnginePulse, engine: Any) -> None:
    """More beats than may be missed, each with its answer: the engine answers in order."""
    for _ in range(2 * MAX_MISSED):
        pulse.beat()
        await asyncio.sleep(0)  # its question goes first
        await engine.is_paused()


def has_ended(process: int) -> bool:
    """Whether it ends soon, by its file descriptor; it may still wait to be buried."""
    return bool(connection.wait([process], 60))

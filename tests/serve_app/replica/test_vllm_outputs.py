"""The engine's own numbers, read at vLLM's real output processor."""

import asyncio
import multiprocessing
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from router import RequestId, hash_tokens
from serve_app.messages.receipts import EngineState, Finished, Prefilled, ProbeResult, Receipt, Status
from serve_app.replica.running_requests import RunningRequests, current_request_id
from serve_app.replica.vllm_outputs import ABORTED, NOT_LOOKED_UP, EngineWatch
from serve_app.replica.warmth.recent_prompts import RecentPrompts


class Answer:
    """As much of vLLM's detokenizer as is called."""

    num_tokens = 0

    def num_output_tokens(self) -> int:
        """So far."""
        return self.num_tokens


class Processor:
    """What is watched of vLLM's OutputProcessor; notes what gets through."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.num_unfinished = 1
        self.request_states: dict[str, Any] = {}

    def has_unfinished_requests(self) -> bool:
        """Whether the engine has anything to do."""
        return self.num_unfinished > 0

    def add_request(self, request: Any, _prompt: str | None, **_: object) -> None:
        """A prompt is on its way to the engine."""
        self.seen.append(f"add {request.request_id}")
        self.request_states[request.request_id] = SimpleNamespace(detokenizer=Answer())

    def process_outputs(self, outputs: list[Any], _timestamp: float, stats: Any) -> str:
        """The engine's answers, a token each."""
        self.seen.append(f"outputs {len(outputs)}")
        for each in outputs:
            self.request_states[each.request_id].detokenizer.num_tokens += 1
        if stats is not None:
            stats.num_preempted_reqs += sum(each.was_preempted for each in outputs)
        return "processed"

    def abort_requests(self, request_ids: list[str], *, internal: bool) -> list[str]:
        """Returns the engine's ids of what was aborted."""
        self.seen.append(f"abort {internal}")
        return [f"{request_id}-engine" for request_id in request_ids]

    def update_scheduler_stats(self, _stats: object) -> None:
        """After a step."""
        self.seen.append("stats")

    def propagate_error(self, _error: Exception) -> None:
        """The engine died."""
        self.seen.append("error")


@pytest.fixture
def receipts() -> list[Receipt]:
    """What is reported."""
    return []


@pytest.fixture
def running(receipts: list[Receipt]) -> RunningRequests:
    """The account behind the watch."""
    return RunningRequests(receipts.append, clock=lambda: 0.0)


@pytest.fixture
def processor() -> Processor:
    """vLLM's part."""
    return Processor()


@pytest.fixture
def watch(running: RunningRequests, processor: Processor) -> EngineWatch:
    """A watch that is attached."""
    watch = EngineWatch(running)
    watch.attach(processor)
    return watch


@pytest.fixture
def routed() -> Iterator[None]:
    """Within a routed request."""
    token = current_request_id.set(RequestId("ours"))
    yield
    current_request_id.reset(token)


def prompt(engine_id: str, num_tokens: int = 10, *, skip: bool | None = False, **fields: object) -> Any:
    """As much of an EngineCoreRequest as is read."""
    params = SimpleNamespace(skip_reading_prefix_cache=skip)
    common = {"cache_salt": None, "lora_request": None, "mm_features": None}
    return SimpleNamespace(
        request_id=engine_id,
        prompt_token_ids=[0] * num_tokens,
        sampling_params=params,
        pooling_params=None,
        **common | fields,
    )


def output(
    engine_id: str,
    *,
    num_prompt_tokens: int | None = None,
    cached: int = 0,
    external: int = 0,
    was_preempted: bool = False,
) -> Any:
    """As much of an EngineCoreOutput as is read; without numbers it is a later token."""
    stats = SimpleNamespace(
        num_prompt_tokens=num_prompt_tokens, num_local_cached_tokens=cached, num_external_cached_tokens=external
    )
    return SimpleNamespace(
        request_id=engine_id,
        prefill_stats=None if num_prompt_tokens is None else stats,
        was_preempted=was_preempted,
    )


def scheduler_stats(waiting: int, running: int, kv_use: float, *, queries: int = 0, hits: int = 0) -> Any:
    """As much of vLLM's SchedulerStats as is read."""
    return SimpleNamespace(
        num_waiting_reqs=waiting,
        num_running_reqs=running,
        kv_cache_usage=kv_use,
        prefix_cache_stats=SimpleNamespace(queries=queries, hits=hits),
    )


def totals(running: RunningRequests, receipts: list[Receipt]) -> tuple[int, int, dict[str, int]]:
    """Prompt, cached and uncounted tokens, as the next heartbeat has them."""
    running.report_status()
    status = receipts.pop()
    assert isinstance(status, Status)
    return status.prompt_tokens, status.cached_tokens, status.uncounted_tokens


@pytest.mark.usefixtures("routed", "watch")
def test_what_came_from_a_second_tier_is_reported_apart(
    processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """It is cached too: 4 tokens were in the GPU's cache, and 3 came back."""
    processor.add_request(prompt("a"), None)
    processor.process_outputs([output("a", num_prompt_tokens=10, cached=4, external=3)], 0.0, None)
    assert receipts == [Prefilled(RequestId("ours"), 10, 7, external_cached_tokens=3)]
    running.report_status()
    assert isinstance(receipts[-1], Status)
    assert (receipts[-1].cached_tokens, receipts[-1].external_cached_tokens) == (7, 3)


@pytest.mark.usefixtures("routed")
def test_each_prompts_first_output_is_reported_with_the_engines_numbers(
    watch: EngineWatch, processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """Two choices of one request are two prompts of one id; later tokens are nothing new."""
    processor.add_request(prompt("a"), None)
    processor.add_request(prompt("b"), None, parent_req=None)
    assert processor.process_outputs([output("a", num_prompt_tokens=10, cached=4)], 0.0, None) == "processed"
    processor.process_outputs([output("a"), output("b", num_prompt_tokens=10, cached=8)], 0.0, None)
    processor.process_outputs([output("a"), output("b")], 0.0, None)
    assert receipts == [Prefilled(RequestId("ours"), 10, 4), Prefilled(RequestId("ours"), 10, 8)]
    assert totals(running, receipts) == (20, 12, {})
    assert watch.num_unanswered == 0
    assert processor.seen == ["add a", "add b", "outputs 1", "outputs 2", "outputs 2"]


@pytest.mark.usefixtures("watch")
def test_what_no_router_sent_is_counted_and_not_reported(
    processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """Warm-up, and clients of the replica's own port: the totals are the engine's."""
    processor.add_request(prompt("a"), None)
    processor.process_outputs([output("a", num_prompt_tokens=10)], 0.0, None)
    assert receipts == []
    assert totals(running, receipts) == (10, 0, {})


@pytest.mark.usefixtures("watch")
def test_of_a_sampled_request_the_routers_get_a_hash_of_its_tokens(
    processor: Processor, receipts: list[Receipt]
) -> None:
    """Both sides tell by the id; of others nothing is hashed."""
    for request_id in ("f0", "0f"):
        token = current_request_id.set(RequestId(request_id))
        processor.add_request(prompt(request_id), None)
        current_request_id.reset(token)
        processor.process_outputs([output(request_id, num_prompt_tokens=10)], 0.0, None)
    assert receipts == [Prefilled(RequestId("f0"), 10, 0, hash_tokens([0] * 10)), Prefilled(RequestId("0f"), 10, 0)]


def test_the_self_tests_prompts_are_noted_for_it_counted_and_not_reported(
    watch: EngineWatch, processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """Only those that its own task sends; they are in the engine's totals, and told apart there."""
    with watch.probing() as results:
        processor.add_request(prompt("probe"), None)
    processor.add_request(prompt("client", 20), None)
    processor.process_outputs(
        [output("client", num_prompt_tokens=20), output("probe", num_prompt_tokens=10, cached=8)], 0.0, None
    )
    assert results == [ProbeResult(10, hash_tokens([0] * 10), 8)]
    assert receipts == []
    assert running.work.arrived_tokens == 20, "what no one sent is no demand"
    assert totals(running, receipts) == (30, 8, {})
    running.report_status()
    assert [each.own_tokens for each in receipts if isinstance(each, Status)] == [10]


@pytest.mark.usefixtures("routed")
def test_a_prompt_aborted_before_its_first_output_is_listed_by_that_cause(
    watch: EngineWatch, processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """One aborted afterwards is counted already."""
    processor.add_request(prompt("a-engine", 10), None)
    processor.add_request(prompt("b-engine", 20), None)
    processor.process_outputs([output("a-engine", num_prompt_tokens=10)], 0.0, None)
    assert processor.abort_requests(["a", "b"], internal=True) == ["a-engine", "b-engine"]
    assert totals(running, receipts) == (10, 0, {ABORTED: 20})
    assert watch.num_unanswered == 0


@pytest.mark.usefixtures("routed", "watch")
def test_a_prompt_that_the_engine_does_not_look_up_is_listed_by_that_cause(
    processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """vLLM leaves it out of its own counters; the router hears of its first token all the same."""
    processor.add_request(prompt("a", skip=True), None)
    processor.process_outputs([output("a", num_prompt_tokens=10)], 0.0, None)
    assert receipts == [Prefilled(RequestId("ours"), 10, 0, is_looked_up=False)]
    assert totals(running, receipts) == (0, 0, {NOT_LOOKED_UP: 10})


@pytest.mark.usefixtures("watch")
def test_the_engines_state_goes_into_the_heartbeat(
    processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """Of its last step; none without statistics."""
    processor.update_scheduler_stats(None)
    running.report_status()
    processor.update_scheduler_stats(scheduler_stats(3, 2, 0.123456, queries=20, hits=8))
    running.report_status()
    before, after = receipts
    assert isinstance(before, Status)
    assert isinstance(after, Status)
    assert before.engine is None
    assert after.engine is not None
    assert (after.engine.waiting, after.engine.running, after.engine.kv_use) == (3, 2, 0.1235)
    assert (after.looked_up_tokens, after.hit_tokens) == (20, 8)


@pytest.mark.usefixtures("watch")
def test_preemptions_are_counted_once_however_a_step_is_cut(
    processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """vLLM processes a step's outputs in parts, with one object for the numbers of all; it has none for no outputs.

    What was counted stays when nothing is left to do.
    """
    for engine_id in ("a", "b", "c"):
        processor.add_request(prompt(engine_id), None)
    stats = SimpleNamespace(num_preempted_reqs=0)
    processor.process_outputs([output("a", was_preempted=True), output("b")], 0.0, stats)
    processor.process_outputs([output("c", was_preempted=True)], 0.0, stats)
    processor.update_scheduler_stats(scheduler_stats(1, 1, 0.5))
    processor.update_scheduler_stats(scheduler_stats(1, 1, 0.5))
    processor.process_outputs([output("a", was_preempted=True)], 0.0, SimpleNamespace(num_preempted_reqs=0))
    processor.update_scheduler_stats(scheduler_stats(1, 1, 0.5))
    running.report_status()
    processor.num_unfinished = 0
    processor.abort_requests(["a"], internal=True)
    running.report_status()
    states = [each.engine for each in receipts if isinstance(each, Status)]
    assert states == [EngineState(1, 1, 0.5, preempted=3), EngineState(0, 0, 0.0, preempted=3)]


@pytest.mark.parametrize("ending", ["finished", "aborted"])
@pytest.mark.usefixtures("watch")
def test_the_answers_tokens_are_counted_when_a_request_is_over(
    processor: Processor, running: RunningRequests, receipts: list[Receipt], ending: str
) -> None:
    """Of two choices together: two tokens and one. What has no tokens to be counted adds none."""
    request_id = RequestId("ours")
    running.arrived(request_id)
    token = current_request_id.set(request_id)
    for engine_id in ("a", "b"):
        processor.add_request(prompt(engine_id), None)
    current_request_id.reset(token)
    processor.add_request(prompt("of-no-one"), None)
    processor.process_outputs([output("a"), output("b"), output("of-no-one")], 0.0, None)
    processor.process_outputs([output("a")], 0.0, None)
    if ending == "aborted":
        processor.abort_requests(["a", "b"], internal=True)
    processor.request_states.clear()  # as vLLM does with what is over
    running.finished(request_id)
    assert receipts[-1] == Finished(request_id, 3)


@pytest.mark.usefixtures("watch")
def test_after_the_last_request_was_aborted_the_engine_is_idle(
    processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """It makes no further step that would say so."""
    processor.update_scheduler_stats(scheduler_stats(1, 1, 0.5))
    states = []
    for processor.num_unfinished in (1, 0):
        processor.abort_requests(["a"], internal=True)
        running.report_status()
        status = receipts.pop()
        assert isinstance(status, Status)
        states.append(status.engine)
    assert states == [EngineState(1, 1, 0.5), EngineState(0, 0, 0.0)]


@pytest.mark.usefixtures("watch")
def test_the_engines_death_is_told_before_its_requests_fail(
    processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """So that no new request comes after them."""
    processor.propagate_error(RuntimeError("engine died"))
    assert isinstance(receipts[0], Status)
    assert not running.is_serving
    assert processor.seen == ["error"]


@pytest.mark.usefixtures("routed")
@pytest.mark.parametrize(
    ("fields", "num_kept"),
    [({}, 1), ({"cache_salt": "a"}, 0), ({"lora_request": "an adapter"}, 0), ({"mm_features": ["an image"]}, 0)],
)
def test_prompts_that_others_may_share_are_kept(
    processor: Processor, running: RunningRequests, fields: dict[str, object], num_kept: int
) -> None:
    """Once they are computed."""
    recent = RecentPrompts(model="m", block_size=4, max_tokens=100, clock=lambda: 0.0)
    EngineWatch(running, recent).attach(processor)
    processor.add_request(prompt("a", **fields), None)
    assert list(recent.newest_first()) == []
    processor.process_outputs([output("a", num_prompt_tokens=10)], 0.0, None)
    assert [len(each.token_ids) for each in recent.newest_first()] == [8] * num_kept


@pytest.mark.usefixtures("watch")
def test_a_fault_of_ours_stays_ours(processor: Processor, caplog: pytest.LogCaptureFixture) -> None:
    """The engine goes on, and the log says what happened."""
    processor.add_request(SimpleNamespace(request_id="a"), None)
    assert processor.seen == ["add a"]
    assert "Cannot account" in caplog.text


async def test_the_end_of_an_engines_process_is_known_before_vllm_says_so(processor: Processor) -> None:
    """The routers hear of it at once; the streams are told when vLLM has tidied up."""
    routers_told = asyncio.Event()
    running = RunningRequests(lambda _: routers_told.set(), clock=lambda: 0.0)
    watch = EngineWatch(running)
    watch.attach(processor)
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    watch.watch_processes(SimpleNamespace(processes=[process]))
    process.kill()
    await asyncio.wait_for(routers_told.wait(), 30)
    process.join()
    assert not running.is_serving
    assert not watch.streams_told.is_set()
    processor.propagate_error(RuntimeError("engine died"))
    assert watch.streams_told.is_set()


async def test_an_engine_without_processes_is_not_watched(watch: EngineWatch, running: RunningRequests) -> None:
    """Ray actors, or none of its own."""
    for engine_manager in (SimpleNamespace(), None):
        watch.watch_processes(engine_manager)
    assert running.is_serving


def run_with_worker(alive: Connection) -> None:
    """Run like an engine with a worker: whoever of the two lives has the connection open."""
    with subprocess.Popen(["sleep", "600"], pass_fds=[alive.fileno()]):
        alive.send("started")


async def test_a_hung_engine_is_one_that_died(
    processor: Processor, running: RunningRequests, receipts: list[Receipt]
) -> None:
    """Routers and streams are told, and neither its process nor its worker's is left behind, stopped as they are."""
    watch = EngineWatch(running)
    watch.attach(processor)
    context = multiprocessing.get_context("spawn")
    alive, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run_with_worker, args=(theirs,))
    process.start()
    theirs.close()
    assert alive.recv() == "started"
    for each in (psutil.Process(process.pid), *psutil.Process(process.pid).children()):
        each.suspend()
    watch.watch_processes(SimpleNamespace(processes=[process]))
    watch.give_up(RuntimeError("engine died"))
    assert isinstance(receipts[0], Status)
    assert not receipts[0].is_serving
    assert processor.seen == ["error"]
    assert watch.streams_told.is_set()
    assert alive.poll(30)
    with pytest.raises(EOFError):
        alive.recv()
    process.join()


async def test_an_engine_that_has_just_died_is_left_alone(watch: EngineWatch, running: RunningRequests) -> None:
    """Its process's number may be another one's by now."""
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    watch.watch_processes(SimpleNamespace(processes=[process]))
    process.join()
    watch.give_up(RuntimeError("engine died"))
    assert not running.is_serving

"""What a router makes of self-tests and of sampled requests."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from router import ReplicaId
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.receipts import SelfTestReport, Status
from serve_app.parity.verdicts import OVERDUE_PERIODS, REMEDY, Verdict, Verdicts, expect, judge
from tests.serve_app.parity.self_test_engine import BLOCK_SIZE, Engine, hasher, read, read_without_chat

HERE, THERE = ReplicaId("app#LLM#here"), ReplicaId("app#LLM#there")

Deviate = Callable[[Engine], None]


def deviating(**flags: Any) -> Engine:
    """An engine with these flags."""
    engine = Engine()
    for name, value in flags.items():
        setattr(engine, name, value)
    return engine


async def judged(engine: Engine, *, num_runs: int = 2, **options: Any) -> Verdict | None:
    """The verdict on the engine's last run."""
    verdict = None
    for _ in range(num_runs):
        report = await engine.report(**options)
        verdict = judge(report, await expect(report, read, hasher()))
    return verdict


DEVIATIONS = [
    ({"template": "Another system prompt."}, Verdict.TEMPLATE),
    ({"refuses_chat": True}, Verdict.TEMPLATE),
    ({"block_size": 48}, Verdict.BLOCK_SIZE),
    ({"block_size": 4}, Verdict.BLOCK_SIZE),
    ({"has_salts": False}, Verdict.SALT),
    ({"salts_each_request": True}, Verdict.SALT),
    ({"has_adapters": False}, Verdict.ADAPTER),
    ({"is_caching": False}, Verdict.NO_CACHE),
]


@pytest.mark.parametrize("num_runs", [1, 3])
@pytest.mark.parametrize(("flags", "expected"), DEVIATIONS, ids=[str(flags) for flags, _ in DEVIATIONS])
async def test_each_deviation_is_told_from_the_others(flags: dict[str, Any], expected: Verdict, num_runs: int) -> None:
    """By the first run already, and by every later one, whose prompts may be cached from before."""
    assert await judged(deviating(**flags), num_runs=num_runs) is expected


@pytest.mark.parametrize("adapter", ["", "m-adapter"])
@pytest.mark.parametrize("flags", [{}, {"leaves_out_last_block": True}, {"refuses_adapter": True}])
async def test_a_replica_as_it_should_be_is_ok(flags: dict[str, Any], adapter: str) -> None:
    """With speculative decoding, vLLM leaves out a block; an adapter may be unloaded."""
    assert await judged(deviating(**flags), adapter=adapter) is Verdict.OK


async def test_what_others_may_have_evicted_proves_nothing() -> None:
    """Except of what is found in a crowd all the same, or found too often."""
    assert await judged(deviating(is_caching=False), is_crowded=True) is None
    assert await judged(deviating(block_size=48), is_crowded=True) is None
    assert await judged(deviating(template="Other."), is_crowded=True) is Verdict.TEMPLATE
    assert await judged(deviating(has_salts=False), is_crowded=True) is Verdict.SALT
    assert await judged(Engine(), is_crowded=True) is Verdict.OK


async def test_a_model_without_a_chat_template_is_judged_by_its_completions() -> None:
    """Both refuse the chats; where everything is refused, nothing is known."""
    report = await deviating(refuses_chat=True).report()
    assert judge(report, await expect(report, read_without_chat, hasher())) is Verdict.OK
    report = await deviating(refuses_chat=True, is_caching=False).report()
    assert judge(report, await expect(report, read_without_chat, hasher())) is Verdict.NO_CACHE
    assert judge(report, [None] * len(report.results)) is Verdict.UNKNOWN


async def test_of_another_versions_probes_nothing_is_known() -> None:
    """During an upgrade, the two sides may not have the same ones."""
    report = msgspec.structs.replace(await Engine().report(), probes_hash=7)
    assert judge(report, await expect(report, read, hasher())) is Verdict.UNKNOWN


def test_every_verdict_but_ok_has_a_remedy() -> None:
    """For the log and the doctor."""
    assert REMEDY.keys() == set(Verdict) - {Verdict.OK}


def status(report: SelfTestReport | None) -> Status:
    """A heartbeat."""
    return Status({}, True, 0, 0, {}, 0, 0, None, self_test=report)  # noqa: FBT003


class Book:
    """A book of two replicas, what it told, and what the replicas said last."""

    def __init__(self) -> None:
        self.told: list[tuple[ReplicaId, Verdict]] = []
        self.book = Verdicts(lambda *change: self.told.append(change))
        self.statuses: dict[ReplicaId, Status] = {HERE: status(None)}
        self.set_sizes(BLOCK_SIZE, BLOCK_SIZE)

    def set_sizes(self, here: int, there: int) -> None:
        """The block sizes that they publish."""
        facts = {HERE: ReplicaFacts(0, here, 1000), THERE: ReplicaFacts(1, there, 1000)}
        self.book.set_replicas(facts, block_size=BLOCK_SIZE)

    async def report(self, engine: Engine, *, now: float = 0, **options: Any) -> Verdict:
        """Let one of the engines report, and judge it."""
        self.statuses[HERE] = status(await engine.report(**options))
        return await self.judge(now=now)

    async def judge(self, *, now: float) -> Verdict:
        """Judge, as a router does once a second."""
        await self.book.judge_new(self.statuses, read, hasher(), now=now)
        return self.book[HERE]

    def sample(self, agreements: str) -> Verdict:
        """Requests there: = where the ids are equal, ! where they differ."""
        for agrees in agreements:
            self.book.on_sample(HERE, agrees=agrees == "=")
        return self.book[HERE]


async def test_a_replica_is_unknown_until_its_self_test_was_judged() -> None:
    """And one that is not known at all always is."""
    book = Book()
    assert await book.judge(now=0) is Verdict.UNKNOWN
    assert await book.report(Engine()) is Verdict.OK
    assert book.book[THERE] is book.book[ReplicaId("unknown")] is Verdict.UNKNOWN
    assert book.told == [(HERE, Verdict.OK)]
    assert book.book.by_rank() == [(0, Verdict.OK), (1, Verdict.UNKNOWN)]


async def test_a_change_is_logged_once_with_the_remedy(caplog: pytest.LogCaptureFixture) -> None:
    """Naming replica, rank and reason; the way back is no warning."""
    book = Book()
    with caplog.at_level(logging.INFO, logger="ray.serve"):
        for _ in range(3):
            await book.report(deviating(template="Other."))
        await book.report(Engine())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    warning, healed = (record.getMessage() for record in caplog.records)
    assert warning.startswith("Key parity of replica app#LLM#here (rank 0) is template, so what it has cached")
    assert warning.endswith(REMEDY[Verdict.TEMPLATE])
    assert healed == "Key parity of replica app#LLM#here (rank 0) is ok"
    assert book.told == [(HERE, Verdict.TEMPLATE), (HERE, Verdict.OK)]


async def test_a_report_that_is_long_overdue_leaves_a_replica_unknown() -> None:
    """It, or the way from it, has failed; the next one is judged as ever."""
    book = Book()
    await book.report(Engine(), now=100)
    assert await book.judge(now=100 + OVERDUE_PERIODS * 60 - 1) is Verdict.OK
    book.statuses.clear()
    assert await book.judge(now=100 + OVERDUE_PERIODS * 60) is Verdict.UNKNOWN
    assert await book.report(Engine(), now=500) is Verdict.OK


async def test_a_crowded_run_changes_nothing_and_is_a_sign_of_life() -> None:
    """Neither for the better nor for the worse; it clears who was never judged."""
    book, no_cache = Book(), deviating(is_caching=False)
    assert await book.report(no_cache, is_crowded=True) is Verdict.OK
    assert await book.report(no_cache) is Verdict.NO_CACHE
    assert await book.report(no_cache, now=200, is_crowded=True) is Verdict.NO_CACHE
    assert await book.judge(now=300) is Verdict.NO_CACHE


async def test_another_block_size_needs_no_self_test() -> None:
    """The replica says so itself; once it has the same, its self-test is judged."""
    book = Book()
    book.set_sizes(BLOCK_SIZE + 16, BLOCK_SIZE)
    assert await book.report(Engine()) is Verdict.BLOCK_SIZE
    assert book.told == [(HERE, Verdict.BLOCK_SIZE)]
    book.set_sizes(BLOCK_SIZE, BLOCK_SIZE)
    assert await book.judge(now=0) is Verdict.OK


async def test_requests_that_differ_in_a_row_are_believed_more_than_the_self_test() -> None:
    """Until a self-test passes after them, and a request after that agrees."""
    book = Book()
    await book.report(Engine())
    assert book.sample("!!=!!") is Verdict.OK
    assert book.sample("!") is Verdict.TEMPLATE
    assert book.sample("=") is Verdict.TEMPLATE
    await book.report(Engine())
    assert book.book[HERE] is Verdict.TEMPLATE
    assert book.sample("!=") is Verdict.OK


async def test_what_the_self_test_says_is_wrong_is_not_hidden_by_requests() -> None:
    """The self-test knows more reasons."""
    book = Book()
    await book.report(deviating(has_salts=False))
    assert book.sample("!!!") is Verdict.SALT
    assert await book.report(Engine()) is Verdict.TEMPLATE


async def test_replicas_that_leave_are_forgotten() -> None:
    """A sample of theirs that comes later counts for none."""
    book = Book()
    await book.report(Engine())
    book.book.set_replicas({}, block_size=BLOCK_SIZE)
    assert book.book.on_sample(HERE, agrees=False) is None
    assert (book.book[HERE], book.book.by_rank()) == (Verdict.UNKNOWN, [])


async def test_a_fault_of_ours_leaves_a_replica_unknown(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, once for each report."""
    book = Book()
    book.statuses[HERE] = status(await Engine().report())

    async def fail(_: dict[str, Any]) -> Any:
        raise RuntimeError("not ready")

    for _ in range(2):
        await book.book.judge_new(book.statuses, fail, hasher(), now=0)
    assert book.book[HERE] is Verdict.UNKNOWN
    assert [record.getMessage() for record in caplog.records] == [f"Cannot judge the self-test of replica {HERE}"]

"""Whether replicas find prompts by the keys that this router makes: judged from self-tests and from sampled requests.

A replica with another template, block size or salt answers every request, and never hits where the router sends it. So
each is unknown until its self-test was judged, and what routers estimate of its cache counts only while it is ok.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import orjson

from router import BlockHash, BlockHasher, ReplicaId, RequestId, RouteRequest, TokenHash, cacheable_tokens, hash_tokens
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.receipts import ProbeResult, SelfTestReport, Status
from serve_app.parity.self_test import Probe, hash_probes, probes_of
from serve_app.prompt.body import Unreadable
from serve_app.prompt.incoming import Incoming

logger = logging.getLogger("ray.serve")

OVERDUE_PERIODS = 4
"""Periods that a replica may be without a new report before it is unknown: a busy one lets its self-test wait."""
MAX_DIFFERING = 3
"""After this many sampled requests in a row whose token ids differ, a replica is not trusted, whatever its self-test
says."""


class Verdict(StrEnum):
    """What is known of one replica's key parity."""

    OK = "ok"
    UNKNOWN = "unknown"
    """It has reported nothing that could be judged, or not for long."""
    TEMPLATE = "template"
    """It makes other token ids of the same request."""
    BLOCK_SIZE = "block_size"
    """It caches blocks of another size than the other replicas."""
    SALT = "salt"
    """It finds one salt's prompts under another, or none under their own."""
    ADAPTER = "adapter"
    """It finds the model's prompts under its adapter's name."""
    NO_CACHE = "no_cache"
    """It never finds anything."""

    @property
    def is_broken(self) -> bool:
        """Whether something must be done."""
        return self not in {Verdict.OK, Verdict.UNKNOWN}


REMEDY: Mapping[Verdict, str] = {
    Verdict.UNKNOWN: "Wait for replicas.canary_period_s. If it stays, the replica's log says why its self-test fails, "
    "or routers and replicas run different versions: finish the upgrade.",
    Verdict.TEMPLATE: "Give it the routers' model folder (tokenizer, chat_template) and llm settings, and restart it; "
    "if these were changed for all, deploy again.",
    Verdict.BLOCK_SIZE: "Give all replicas the same llm.engine_kwargs.block_size, and restart it.",
    Verdict.SALT: "Something before its engine drops or changes cache_salt: remove that, and restart it.",
    Verdict.ADAPTER: "Its adapter's name leads to the base model: load the adapter as on the other replicas.",
    Verdict.NO_CACHE: "Set llm.engine_kwargs.enable_prefix_caching: true, and restart it.",
}
"""The remedy for an operator, by verdict."""


class Expected(NamedTuple):
    """The result that a router expects of a probe."""

    prompt_tokens: int
    token_hash: TokenHash
    cached_tokens: int


Read = Callable[[bytes, Mapping[str, str]], Awaitable[Incoming]]
"""Reads a request, as `RequestReader.read`."""


async def expect(report: SelfTestReport, read: Read, hasher: BlockHasher) -> list[Expected | None]:
    """Expected results of the report's probes, None for a refused one; empty for another version's probes."""
    if hash_probes(probes_of(report)) != report.probes_hash:
        return []
    cached: set[BlockHash] = set()
    expected: list[Expected | None] = []
    for probe in probes_of(report):
        incoming = await read(orjson.dumps(probe.body), {})
        if isinstance(incoming.prompt, Unreadable):
            expected.append(None)
            continue
        request = incoming.describe(RequestId(probe.path), hasher, ())
        cached_tokens = _cached_tokens(request, cached, block_size=report.block_size)
        cached.update(request.block_hashes)
        expected.append(Expected(request.num_prompt_tokens, hash_tokens(incoming.prompt.token_ids), cached_tokens))
    return expected


def _cached_tokens(request: RouteRequest, cached: set[BlockHash], *, block_size: int) -> int:
    # Hashes are chained: no block is cached without those before it.
    num_blocks = sum(block_hash in cached for block_hash in request.block_hashes)
    return cacheable_tokens(request.num_prompt_tokens, num_blocks=num_blocks, block_size=block_size)


class _Pair(NamedTuple):
    probe: Probe
    result: ProbeResult
    expected: Expected
    is_repeat: bool
    """Whether the one before was the same, so that all of it but the end is cached."""


def judge(report: SelfTestReport, expected: Sequence[Expected | None]) -> Verdict | None:
    """What a report proves; None where others may have evicted what was not found."""
    pairs = list(_pairs(report, expected))
    if not pairs:
        return Verdict.UNKNOWN
    return Verdict.TEMPLATE if _differs(report, expected) else _judge_cache(report, pairs)


def _judge_cache(report: SelfTestReport, pairs: Sequence[_Pair]) -> Verdict | None:
    repeats = [pair for pair in pairs if pair.is_repeat]
    if any(_is_odd(pair, report.block_size) for pair in repeats):
        return None if report.was_crowded else Verdict.BLOCK_SIZE
    found = [pair.probe for pair in pairs if pair.result.cached_tokens > pair.expected.cached_tokens]
    if found:
        is_adapters_only = all(probe.body["model"] != report.model for probe in found)
        return Verdict.ADAPTER if is_adapters_only else Verdict.SALT
    missed = [pair for pair in repeats if not pair.result.cached_tokens]
    if not missed:
        return Verdict.OK
    if report.was_crowded:
        return None
    return Verdict.NO_CACHE if missed == repeats else Verdict.SALT


def _pairs(report: SelfTestReport, expected: Sequence[Expected | None]) -> Iterator[_Pair]:
    before = None
    for probe, result, wanted in zip(probes_of(report), report.results, expected, strict=False):
        if result is not None and wanted is not None:
            yield _Pair(probe, result, wanted, is_repeat=probe == before)
        before = probe


def _differs(report: SelfTestReport, expected: Sequence[Expected | None]) -> bool:
    """Whether token ids differ, or what is refused. An adapter may be refused for other reasons than its prompt."""
    for probe, result, wanted in zip(probes_of(report), report.results, expected, strict=False):
        if result is None or wanted is None:
            if (result is None) != (wanted is None) and probe.body["model"] == report.model:
                return True
        elif (result.prompt_tokens, result.token_hash) != (wanted.prompt_tokens, wanted.token_hash):
            return True
    return False


def _is_odd(pair: _Pair, block_size: int) -> bool:
    """Whether something was found, and not all full blocks; with speculative decoding vLLM leaves out the last."""
    missing_tokens = pair.expected.cached_tokens - pair.result.cached_tokens
    return pair.result.cached_tokens > 0 and missing_tokens not in {0, block_size}


@dataclass(slots=True)
class Standing:
    """What is known of one replica."""

    rank: int = 0
    is_odd_sized: bool = False
    """Whether its block size is not the router's."""
    by_self_test: Verdict = Verdict.UNKNOWN
    nonce: str = ""
    """The nonce of the last self-test that was judged."""
    due_at: float = 0.0
    """When the next self-test is overdue, in seconds of the router's clock."""
    num_differing: int = 0
    """Sampled requests in a row whose token ids differ."""
    is_distrusted: bool = False
    """Whether they made it distrusted, until a self-test passes and a request after it agrees."""
    has_passed: bool = False
    told: Verdict = Verdict.UNKNOWN

    @property
    def verdict(self) -> Verdict:
        """The verdict by all that is known."""
        if self.is_odd_sized:
            return Verdict.BLOCK_SIZE
        if self.is_distrusted and not self.by_self_test.is_broken:
            return Verdict.TEMPLATE
        return self.by_self_test


class Verdicts:
    """The standing of every replica.

    Args:
        on_change: takes each replica whose verdict changes; the first verdict is unknown.

    """

    def __init__(self, on_change: Callable[[ReplicaId, Verdict], None]) -> None:
        self._on_change = on_change
        self._standings: dict[ReplicaId, Standing] = {}

    def __getitem__(self, replica_id: ReplicaId) -> Verdict:
        standing = self._standings.get(replica_id)
        return Verdict.UNKNOWN if standing is None else standing.verdict

    def rank_of(self, replica_id: ReplicaId) -> int | None:
        """The replica's rank; None if it does not run."""
        standing = self._standings.get(replica_id)
        return None if standing is None else standing.rank

    def by_rank(self) -> list[tuple[int, Verdict]]:
        """Rank and verdict of every replica."""
        return [(standing.rank, standing.verdict) for standing in self._standings.values()]

    def set_replicas(self, replica_to_facts: Mapping[ReplicaId, ReplicaFacts], *, block_size: int) -> None:
        """Take the replicas that run now, and the block size by which prompts are keyed."""
        self._standings = {name: self._standings.get(name, Standing()) for name in replica_to_facts}
        for replica_id, facts in replica_to_facts.items():
            standing = self._standings[replica_id]
            standing.rank, standing.is_odd_sized = facts.rank, facts.block_size != block_size
            self._tell(replica_id, standing)

    async def judge_new(
        self, replica_to_status: Mapping[ReplicaId, Status], read: Read, hasher: BlockHasher, *, now: float
    ) -> None:
        """Judge the self-tests that are new; a replica that had none for long is unknown."""
        for replica_id, standing in list(self._standings.items()):
            status = replica_to_status.get(replica_id)
            report = None if status is None else status.self_test
            if standing.is_odd_sized:
                continue
            if report is not None and report.nonce != standing.nonce:
                await self._judge(replica_id, standing, report, read, hasher, now=now)
            elif now >= standing.due_at:
                standing.by_self_test = Verdict.UNKNOWN
            self._tell(replica_id, standing)

    async def _judge(
        self,
        replica_id: ReplicaId,
        standing: Standing,
        report: SelfTestReport,
        read: Read,
        hasher: BlockHasher,
        *,
        now: float,
    ) -> None:
        try:
            verdict = judge(report, await expect(report, read, hasher))
        except Exception:
            logger.exception("Cannot judge the self-test of replica %s", replica_id)
            verdict = Verdict.UNKNOWN
        if verdict is not None:
            standing.by_self_test = verdict
        elif standing.by_self_test is Verdict.UNKNOWN:
            standing.by_self_test = Verdict.OK  # nothing speaks against it
        standing.nonce, standing.due_at = report.nonce, now + OVERDUE_PERIODS * report.period_s
        standing.has_passed |= standing.by_self_test is Verdict.OK

    def on_sample(self, replica_id: ReplicaId, *, agrees: bool) -> int | None:
        """Compare a sampled request's token ids; returns the replica's rank, None if it does not run."""
        standing = self._standings.get(replica_id)
        if standing is None:
            return None
        if agrees:
            standing.num_differing = 0
            standing.is_distrusted &= not standing.has_passed
        else:
            standing.num_differing += 1
            if standing.num_differing >= MAX_DIFFERING and not standing.is_distrusted:
                standing.is_distrusted, standing.has_passed = True, False
        self._tell(replica_id, standing)
        return standing.rank

    def _tell(self, replica_id: ReplicaId, standing: Standing) -> None:
        verdict = standing.verdict
        if verdict is standing.told:
            return
        standing.told = verdict
        self._on_change(replica_id, verdict)
        if verdict is Verdict.OK:
            logger.info("Key parity of replica %s (rank %d) is ok", replica_id, standing.rank)
        else:
            text = "Key parity of replica %s (rank %d) is %s, so what it has cached is not counted on. %s"
            logger.warning(text, replica_id, standing.rank, verdict, REMEDY[verdict])

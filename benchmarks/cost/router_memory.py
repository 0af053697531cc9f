"""Is a router's memory bounded by its settings, whoever comes? Runs what a router process keeps, in this process.

Each request's body goes through the request reader with vLLM's renderer, the memo of chats and fastokens, the block
hasher, and the core, which hears at once that it was computed and is over. HTTP and Ray are left out: they keep nothing
of it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import orjson
import psutil
import typer
import yaml
from rich.progress import track

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.report import Report
from benchmarks.harness.rows import as_table
from loadtests.report.console import notes_console
from router import BlockHasher, Replica, ReplicaId, RequestId
from router.policies import make_policy
from serve_app.demo.model import WORKLOAD, build_demo_model
from serve_app.prompt.body import Unreadable
from serve_app.prompt.chat_memo import MEMO_BYTES
from serve_app.prompt.incoming import RequestReader
from serve_app.prompt.served_model import ServedModel
from serve_app.settings.load import shipped_settings
from serve_app.settings.schema import EngineModelSettings, RouterSettings

SETTINGS = shipped_settings("cpu-demo.yaml")
NUM_REPLICAS = 8
KV_CAPACITY_TOKENS = 262_144
RETURNING = 0.2
"""Earlier conversations that go on, for each new one."""
MEAN_AGE = 20_000
"""Mean number of other conversations that begin before one goes on."""
OWN_TOOLS = 0.01
"""The share of conversations that bring tools of their own."""
TOOLS_EACH = 8
MEDIAN_WORDS, SIGMA, MAX_WORDS = 50, 1.2, 6000
"""Words of a first message, log-normal: half of them are short, and a few are documents."""
ANSWER_WORDS = 60
MAX_TURNS = 8
MODEL = Path(".warmroute/demo-model")
NUM_SAMPLES = 10
WARM_UP = 200
"""Conversations before the first look at memory: what is made once is made by then."""

FULL_SHARE = 0.97
"""The share of the memo from which on memory must not grow."""
MEMO_FACTOR = 1.1
"""Resident memory of the memo, at most, in terms of what it accounts for."""
TOKENIZER_MIB = 200
"""Resident memory of fastokens' caches of words, at most."""
CORE_MIB = 80
"""Resident memory of block hasher and core, at most, with eight replicas of this size."""
FLAT_MIB = 48
"""MiB that may come and go with long texts, or come when a table of fastokens' cache of words doubles."""

app = make_app()


class ManyConversations:
    """Conversations that are made again from their number whenever needed, so that each takes one byte.

    Args:
        words: which texts are made of, in their order.
        number: of conversations.
        seed: decides everything.

    """

    def __init__(self, words: Sequence[str], *, number: int, seed: int) -> None:
        self._words = words
        self._seed = seed
        self._num_turns = bytearray(number)

    def bodies(self) -> Iterator[tuple[bool, bytes]]:
        """Chat requests, and whether a conversation begins with it: each once, some of them again and again."""
        rng = Random(f"conversations {self._seed}")
        for number in range(len(self._num_turns)):
            yield True, self._next_body(number)
            earlier = number - 1 - int(rng.expovariate(1 / MEAN_AGE))
            if rng.random() < RETURNING and earlier >= 0 and self._num_turns[earlier] < MAX_TURNS:
                yield False, self._next_body(earlier)

    def _next_body(self, number: int) -> bytes:
        self._num_turns[number] += 1
        rng = Random(f"{self._seed} {number}")
        own_tools = [_tool(number, index) for index in range(TOOLS_EACH)] if rng.random() < OWN_TOOLS else None
        num_words = min(MAX_WORDS, int(MEDIAN_WORDS * rng.lognormvariate(0, SIGMA)))
        messages = [{"role": "user", "content": f"Case {number}: {self._text(rng, num_words)}"}]
        for _ in range(self._num_turns[number] - 1):
            messages.append({"role": "assistant", "content": self._text(rng, ANSWER_WORDS)})
            messages.append({"role": "user", "content": self._text(rng, ANSWER_WORDS // 2)})
        return orjson.dumps({"model": "demo", "messages": messages} | ({"tools": own_tools} if own_tools else {}))

    def _text(self, rng: Random, num_words: int) -> str:
        """Sentences' length of words in the order in which people wrote them, from here and there."""
        parts: list[str] = []
        for _ in range(0, num_words, 16):
            start = rng.randrange(len(self._words) - 16)
            parts += self._words[start : start + 16]
        return " ".join(parts[:num_words])


def _tool(number: int, index: int) -> dict[str, Any]:
    properties = {f"field_{field}": {"type": "string", "description": f"Of case {number}"} for field in range(4)}
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": f"look_up_{number}_{index}", "parameters": parameters}}


class RouterParts:
    """What keeps something of clients' requests in a router process."""

    def __init__(self, llm: dict[str, Any], *, memo_bytes: int) -> None:
        from serve_app.prompt.vllm_reader import PromptReader

        self._prompts = PromptReader(llm, max_memo_bytes=memo_bytes)
        self._reader = RequestReader(session_header="x-session-id", model=ServedModel.from_llm(llm), max_sequences=1)
        self._reader.prompts = self._prompts
        block_size = llm["engine_kwargs"]["block_size"]
        self.hasher = BlockHasher(block_size=block_size)
        policy = make_policy("prefix_affinity", Random(1))
        self.router = RouterSettings().make_router(
            policy=policy, block_size=block_size, engine_model=EngineModelSettings()
        )
        self.router.set_replicas(
            Replica(ReplicaId(f"replica {rank}"), rank, KV_CAPACITY_TOKENS) for rank in range(NUM_REPLICAS)
        )
        self._num_requests = 0

    async def take(self, body: bytes) -> None:
        """A request from its arrival to its end."""
        incoming = await self._reader.read(body, {})
        if isinstance(incoming.prompt, Unreadable):
            raise TypeError(f"a prompt cannot be read: {incoming.prompt}")
        self._num_requests += 1
        request = incoming.describe(RequestId(str(self._num_requests)), self.hasher, ())
        now = self._num_requests / 100
        decision = self.router.choose(request, now=now).decision
        self.router.on_heard(decision.replica_id, is_serving=True, now=now)
        self.router.on_arrived(request.request_id, decision.replica_id, now=now)
        self.router.on_prefilled(
            request.request_id,
            prompt_tokens=request.num_prompt_tokens,
            cached_tokens=decision.believed_cached_tokens,
            now=now,
        )
        self.router.on_finished(request.request_id, now=now)

    @property
    def memo_bytes(self) -> int:
        """Bytes that the memo counts for itself."""
        return 0 if self._prompts.chats is None else self._prompts.chats.num_bytes

    @property
    def num_forms(self) -> int:
        """Forms in the memo."""
        return 0 if self._prompts.chats is None else self._prompts.chats.snapshot()["forms"]

    def cached_blocks(self) -> int:
        """Blocks over all replicas."""
        holders = self.router.cluster.holders
        return sum(holders.num_blocks(replica.replica_id) for replica in self.router.cluster.replicas)


@dataclass(frozen=True, slots=True)
class MemorySample:
    """What was seen after a number of conversations."""

    conversations: int
    requests: int
    resident_mib: float
    memo_mib: float
    peak_memo_mib: float
    """The most since the sample before."""
    forms: int
    stretches: int
    cached_blocks: int


@app.command()
@measurement
def main(
    conversations: Annotated[int, typer.Option(min=10, help="All of them distinct.")] = 1_000_000,
    mib: Annotated[float, typer.Option(min=1, help="Of the memo of chats.")] = MEMO_BYTES / 2**20,
    seed: SeedOption = 1,
) -> Report:
    """Let conversations by, and look at memory ten times."""
    build_demo_model(MODEL)
    llm = yaml.safe_load(SETTINGS.read_text())["llm"]
    llm["model_loading_config"]["model_source"] = str(MODEL)
    parts = RouterParts(llm, memo_bytes=round(mib * 2**20))
    words = (WORKLOAD / "corpus.txt").read_text(encoding="utf-8").split()
    driving = _drive(parts, ManyConversations(words, number=conversations, seed=seed), conversations // NUM_SAMPLES)
    samples = list(track(driving, "Conversations", NUM_SAMPLES + 1, console=notes_console(), transient=True))
    return Report([as_table("Memory", samples)], {"samples": samples}, faults(samples, mib=mib))


def _drive(parts: RouterParts, conversations: ManyConversations, every: int) -> Iterator[MemorySample]:
    loop = asyncio.new_event_loop()
    process = psutil.Process()
    num_new = peak_bytes = 0
    for num_requests, (is_new, body) in enumerate(conversations.bodies(), start=1):
        loop.run_until_complete(parts.take(body))
        num_new += is_new
        peak_bytes = max(peak_bytes, parts.memo_bytes)
        if is_new and (num_new == WARM_UP or num_new % every == 0):
            yield MemorySample(
                num_new,
                num_requests,
                process.memory_info().rss / 2**20,
                parts.memo_bytes / 2**20,
                peak_bytes / 2**20,
                parts.num_forms,
                parts.hasher.num_stretches,
                parts.cached_blocks(),
            )
            peak_bytes = 0
    loop.close()


def faults(samples: Sequence[MemorySample], *, mib: float) -> list[str]:
    """What must not be, in words."""
    found = []
    peak_mib = max(sample.peak_memo_mib for sample in samples)
    if peak_mib > mib:
        found.append(f"the memo accounted for {peak_mib:.1f} MiB of {mib:.1f}")
    limit_mib = MEMO_FACTOR * mib + TOKENIZER_MIB + CORE_MIB
    growth_mib = samples[-1].resident_mib - samples[0].resident_mib
    if growth_mib > limit_mib:
        found.append(f"resident memory grew by {growth_mib:.0f} MiB, of at most {limit_mib:.0f}")
    full = [sample for sample in samples if sample.memo_mib >= FULL_SHARE * mib]
    if not full:
        found.append("the memo was never full: take more conversations, or less memory")
    elif full[-1].resident_mib - full[0].resident_mib > FLAT_MIB:
        found.append(f"full, it grew by {full[-1].resident_mib - full[0].resident_mib:.0f} MiB more")
    return found

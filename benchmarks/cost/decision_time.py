"""What a routing decision and each message cost the core, and how that grows with replicas, blocks and prompts.

Times are those of one call, and the median counts. A returning conversation finds nine tenths of its prompt on one
replica; a cold prompt finds only what its tenant's requests share. KV events are those of eight replicas that are all
full: one that prefills 10,000 tokens a second stores 625 blocks of 16 tokens a second and evicts as many.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from statistics import median, quantiles
from typing import Annotated, Any

import typer

from benchmarks.cost.full_engines import CONVERSATION_BLOCKS, STEP_BLOCKS, Chain, FullEngines
from benchmarks.cost.loaded_router import LoadedRouter, Size
from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.report import Report
from benchmarks.harness.rows import rows_report
from loadtests.replay.options import read_numbers
from router import RouteRequest, Shadow, hash_blocks, root_hash
from router.policies import POLICY_NAMES, make_policy

PROMPT_TOKENS = 16_000
LENGTHS = (1_000, 4_000, 16_000, 64_000)
BLOCK_SIZES = (16, 64, 512)
SMALL = Size(num_replicas=8, block_size=16)
FILLED = (SMALL, Size(8, 64), Size(8, 512), Size(64, 512))
"""Sizes at which the bytes of a cached block are measured."""
CONVERSATION_TOKENS = CONVERSATION_BLOCKS * SMALL.block_size
WARM_UP_CALLS, CALLS = 20, 300

app = make_app()


@dataclass(frozen=True, slots=True)
class TimeRow:
    """The times of one call, in microseconds."""

    call: str
    replicas: int
    block_size: int
    prompt: str
    median_us: float
    quartile_1_us: float
    quartile_3_us: float
    least_us: float


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """What a filled router keeps."""

    replicas: int
    block_size: int
    cached_blocks: int
    bytes_per_block: float


@app.command()
@measurement
def main(
    replicas: Annotated[str, typer.Option(help="Numbers of replicas, separated by commas.")] = "8,64,256,1024",
    block_sizes: Annotated[str, typer.Option(help="Tokens of a block, separated by commas.")] = "16,512",
    seed: SeedOption = 1,
) -> Report:
    """Time the core's calls in this process."""
    sizes = [
        Size(int(num_replicas), int(block_size))
        for block_size in read_numbers("--block-sizes", block_sizes)
        for num_replicas in read_numbers("--replicas", replicas)
    ]
    return rows_report(
        [
            (f"Calls at {PROMPT_TOKENS:,} prompt tokens", lambda: _calls(sizes, seed)),
            ("Decisions by length of the prompt", lambda: _by_length(seed)),
            ("Decisions with one shadow policy", lambda: _shadowed(seed)),
            (f"Hashing {PROMPT_TOKENS:,} tokens, which comes before a decision", lambda: _hashing(seed)),
            ("KV events", lambda: _kv_events(seed)),
            ("Memory of a filled router", lambda: _memory(seed)),
        ],
        caveats=(),
    )


def _calls(sizes: Sequence[Size], seed: int) -> Iterator[TimeRow]:
    for size in sizes:
        with _loaded(size, seed) as loaded:
            yield _choose(loaded, "choose, returning", loaded.returning)
            yield _choose(loaded, "choose, cold", loaded.cold)

            def choose(loaded: LoadedRouter = loaded) -> None:
                loaded.finish_chosen()
                loaded.choose(loaded.returning())

            yield _row("on_prefilled", size, PROMPT_TOKENS, loaded.prefill_chosen, prepare=_nothing(choose))
            loaded.finish_chosen()

            def choose_and_prefill(loaded: LoadedRouter = loaded) -> None:
                loaded.choose(loaded.returning())
                loaded.prefill_chosen()

            yield _row("on_finished", size, PROMPT_TOKENS, loaded.finish_chosen, prepare=_nothing(choose_and_prefill))


def _by_length(seed: int) -> Iterator[TimeRow]:
    for prompt_tokens in LENGTHS:
        with _loaded(SMALL, seed, prompt_tokens) as loaded:
            yield _choose(loaded, "choose, returning", loaded.returning, prompt_tokens)


def _shadowed(seed: int) -> Iterator[TimeRow]:
    """What a shadow adds to a decision: its own choice, its regret, and what it learns."""
    with _loaded(SMALL, seed) as loaded:
        for name in ("no shadow", *POLICY_NAMES):
            loaded.router.shadows = (Shadow(make_policy(name, Random(seed))),) if name in POLICY_NAMES else ()
            yield _choose(loaded, f"choose, {name}", loaded.returning)


def _hashing(seed: int) -> Iterator[TimeRow]:
    rng, root = Random(seed), root_hash(model="demo", adapter="", tenant="", cache_salt="")
    token_ids = [rng.randrange(150_000) for _ in range(PROMPT_TOKENS)]
    for block_size in BLOCK_SIZES:

        def hash_all(block_size: int = block_size) -> None:
            hash_blocks(token_ids, block_size=block_size, root=root)

        yield _row("hash_blocks", Size(0, block_size), PROMPT_TOKENS, hash_all, prepare=tuple)


def _kv_events(seed: int) -> Iterator[TimeRow]:
    engines = FullEngines(rng=Random(seed))
    router, replica_id = engines.router, engines.replica_ids[0]
    steps = iter(lambda: engines.conversation(STEP_BLOCKS), None)
    for num_blocks, chains in ((STEP_BLOCKS, steps), (1, engines.answer(replica_id))):

        def make_room(num_blocks: int = num_blocks, chains: Iterator[Chain] = chains) -> tuple[Any, ...]:
            router.on_blocks_removed(replica_id, engines.oldest(replica_id, num_blocks))
            return replica_id, next(chains)

        def fill(num_blocks: int = num_blocks) -> tuple[Any, ...]:
            engines.store(replica_id, engines.conversation(num_blocks))
            return replica_id, engines.oldest(replica_id, num_blocks)

        for call, timed, prepare in (("stored", engines.store, make_room), ("removed", router.on_blocks_removed, fill)):
            yield _row(f"{num_blocks} blocks {call}", engines.size, CONVERSATION_TOKENS, timed, prepare=prepare)
    assert all(router.cluster.holders.is_exact(known) for known in engines.replica_ids), "an event was not understood"


def _memory(seed: int) -> Iterator[MemoryRow]:
    """Everything that a filled router keeps, for each block that it estimates to be cached."""
    for size in FILLED:
        tracemalloc.start()
        try:
            loaded = LoadedRouter(size, prompt_blocks=PROMPT_TOKENS // size.block_size, rng=Random(seed))
            gc.collect()
            num_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        num_blocks = loaded.num_cached_blocks
        yield MemoryRow(size.num_replicas, size.block_size, num_blocks, num_bytes / num_blocks)


@contextmanager
def _loaded(size: Size, seed: int, prompt_tokens: int = PROMPT_TOKENS) -> Iterator[LoadedRouter]:
    """A filled router, which the garbage collector does not walk through while something is timed."""
    loaded = LoadedRouter(size, prompt_blocks=prompt_tokens // size.block_size, rng=Random(seed))
    gc.collect()
    gc.freeze()
    try:
        yield loaded
    finally:
        gc.unfreeze()


def _choose(
    loaded: LoadedRouter, call: str, make_request: Callable[[], RouteRequest], prompt_tokens: int = PROMPT_TOKENS
) -> TimeRow:
    """Each call decides on a request of its own, while the requests before it go by."""

    def next_request() -> tuple[RouteRequest]:
        loaded.go_by()
        return (make_request(),)

    row = _row(call, loaded.size, prompt_tokens, loaded.choose, prepare=next_request)
    loaded.prefill_chosen()
    loaded.finish_chosen()
    return row


def _nothing(prepare: Callable[[], None]) -> Callable[[], tuple[()]]:
    """A preparation of a call that takes no arguments."""

    def prepared() -> tuple[()]:
        prepare()
        return ()

    return prepared


def _row(
    call: str, size: Size, prompt_tokens: int, timed: Callable[..., object], *, prepare: Callable[[], tuple[Any, ...]]
) -> TimeRow:
    """The times of a call whose arguments are prepared, untimed, before each."""
    times_us = []
    for number in range(WARM_UP_CALLS + CALLS):
        arguments = prepare()
        started_ns = time.perf_counter_ns()
        timed(*arguments)
        if number >= WARM_UP_CALLS:
            times_us.append((time.perf_counter_ns() - started_ns) / 1000)
    first, _, third = quantiles(times_us, n=4)
    return TimeRow(
        call, size.num_replicas, size.block_size, f"{prompt_tokens:,}", median(times_us), first, third, min(times_us)
    )

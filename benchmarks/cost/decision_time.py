"""What a routing decision and each message cost the core, and how that grows with replicas, blocks and prompts.

Times are those of one call, and the median counts. A returning conversation finds nine tenths of its prompt on one
replica; a cold prompt finds only what its tenant's requests share.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from statistics import median, quantiles
from typing import Annotated, Any

import typer

from benchmarks.cost.loaded_router import LoadedRouter, Size
from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.report import Report
from benchmarks.harness.rows import rows_report
from loadtests.replay.options import read_numbers
from router import RouteRequest, hash_blocks, root_hash

PROMPT_TOKENS = 16_000
LENGTHS = (1_000, 4_000, 16_000, 64_000)
BLOCK_SIZES = (16, 64, 512)
SIZED = (16, 512)
"""Block sizes at which all numbers of replicas are tried; the others are only hashed."""
SMALL = Size(num_replicas=8, block_size=16)
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


@app.command()
@measurement
def main(
    replicas: Annotated[str, typer.Option(help="Numbers of replicas, separated by commas.")] = "8,64,256,1024",
    seed: SeedOption = 1,
) -> Report:
    """Time the core's calls in this process."""
    sizes = [
        Size(int(num_replicas), block_size)
        for block_size in SIZED
        for num_replicas in read_numbers("--replicas", replicas)
    ]
    return rows_report(
        [
            (f"Calls at {PROMPT_TOKENS:,} prompt tokens", lambda: _calls(sizes, seed)),
            ("Decisions by length of the prompt", lambda: _by_length(seed)),
            (f"Hashing {PROMPT_TOKENS:,} tokens, which comes before a decision", lambda: _hashing(seed)),
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


def _hashing(seed: int) -> Iterator[TimeRow]:
    rng, root = Random(seed), root_hash(model="demo", adapter="", tenant="", cache_salt="")
    token_ids = [rng.randrange(150_000) for _ in range(PROMPT_TOKENS)]
    for block_size in BLOCK_SIZES:

        def hash_all(block_size: int = block_size) -> None:
            hash_blocks(token_ids, block_size=block_size, root=root)

        yield _row("hash_blocks", Size(0, block_size), PROMPT_TOKENS, hash_all, prepare=tuple)


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

"""What a decision costs at 16k prompt tokens, and how that grows with replicas, blocks and prompts.

Times are one call's, and the median counts: a decision at 8 replicas, its block hashes given, has 150 us, and one at
1,024 replicas twice what it takes at 8. A returning conversation finds nine tenths of its prompt on one replica, a
cold one only what its tenant's requests share.
"""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from random import Random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cost.loaded_router import LoadedRouter, Size
from router import RouteRequest, Shadow, hash_blocks, root_hash
from router.policies import POLICY_NAMES, make_policy

PROMPT_TOKENS = 16_000
ROUNDS = 300
WARMUP_ROUNDS = 20
SEED = 1

SIZES = [Size(num_replicas, block_size) for block_size in (16, 512) for num_replicas in (8, 64, 256, 1024)]


def name_of(size: object) -> str:
    """The names sort in the order of sizes."""
    assert isinstance(size, Size)
    return f"block={size.block_size:03},replicas={size.num_replicas:04}"


@pytest.fixture(scope="module")
def loaded(request: pytest.FixtureRequest) -> Iterator[LoadedRouter]:
    """Of the parameter's size. Filling the largest ones takes a while, so each is filled once."""
    size: Size = request.param
    router = LoadedRouter(size, prompt_blocks=PROMPT_TOKENS // size.block_size, rng=Random(SEED))
    gc.collect()
    gc.freeze()  # or the collector walks millions of blocks while we measure
    yield router
    gc.unfreeze()


at_every_size = pytest.mark.parametrize("loaded", SIZES, ids=name_of, indirect=True)


@at_every_size
@pytest.mark.benchmark(group="choose: a returning conversation of 16k tokens")
def test_choose_returning(benchmark: BenchmarkFixture, loaded: LoadedRouter) -> None:
    """`Router.choose` where a replica holds nine tenths of the prompt."""
    measure_choose(benchmark, loaded, loaded.returning)


@at_every_size
@pytest.mark.benchmark(group="choose: a cold prompt of 16k tokens")
def test_choose_cold(benchmark: BenchmarkFixture, loaded: LoadedRouter) -> None:
    """`Router.choose` where only the tenant's own prompt is held."""
    measure_choose(benchmark, loaded, loaded.cold)


@at_every_size
@pytest.mark.benchmark(group="on_prefilled: 16k tokens")
def test_on_prefilled(benchmark: BenchmarkFixture, loaded: LoadedRouter) -> None:
    """The receipt of a first token."""

    def choose() -> None:
        loaded.finish_chosen()
        loaded.choose(loaded.returning())

    measure(benchmark, loaded.prefill_chosen, prepare=choose)
    loaded.finish_chosen()


@at_every_size
@pytest.mark.benchmark(group="on_finished: 16k tokens")
def test_on_finished(benchmark: BenchmarkFixture, loaded: LoadedRouter) -> None:
    """The receipt of an answer's end."""

    def choose_and_prefill() -> None:
        loaded.choose(loaded.returning())
        loaded.prefill_chosen()

    measure(benchmark, loaded.finish_chosen, prepare=choose_and_prefill)


@pytest.mark.parametrize("loaded", [Size(8, 16)], ids=name_of, indirect=True)
@pytest.mark.parametrize("shadow", ["no shadow", *POLICY_NAMES])
@pytest.mark.benchmark(group="choose with one shadow: a returning conversation of 16k tokens")
def test_choose_shadowed(benchmark: BenchmarkFixture, loaded: LoadedRouter, shadow: str) -> None:
    """What a shadow adds to a decision: its own choice, its regret, and what it learns."""
    if shadow in POLICY_NAMES:
        policy = make_policy(shadow, Random(SEED))
        loaded.router.shadows = (Shadow(policy),)
    measure_choose(benchmark, loaded, loaded.returning)
    loaded.router.shadows = ()


@pytest.mark.parametrize("prompt_tokens", [1_000, 4_000, 16_000, 64_000], ids=lambda tokens: f"{tokens:05}")
@pytest.mark.benchmark(group="choose by prompt: a returning conversation, 8 replicas, blocks of 16")
def test_choose_by_length(benchmark: BenchmarkFixture, prompt_tokens: int) -> None:
    """The curve over the prompt's blocks."""
    size = Size(num_replicas=8, block_size=16)
    loaded = LoadedRouter(size, prompt_blocks=prompt_tokens // size.block_size, rng=Random(SEED))
    measure_choose(benchmark, loaded, loaded.returning)


@pytest.mark.parametrize("block_size", [16, 64, 512])
@pytest.mark.benchmark(group="hash_blocks: 16k tokens")
def test_hash_blocks(benchmark: BenchmarkFixture, block_size: int) -> None:
    """Hashing, which comes before a decision."""
    rng = Random(SEED)
    token_ids = [rng.randrange(150_000) for _ in range(PROMPT_TOKENS)]
    root = root_hash(model="demo", adapter="", tenant="", cache_salt="")
    hashes = benchmark(hash_blocks, token_ids, block_size=block_size, root=root)
    assert len(hashes) == PROMPT_TOKENS // block_size


@pytest.mark.parametrize("size", [Size(8, 16), Size(8, 64), Size(8, 512), Size(64, 512)], ids=name_of)
def test_bytes_per_held_block(size: Size, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that a filled router keeps, over the blocks that it believes are held."""
    tracemalloc.start()
    try:
        loaded = LoadedRouter(size, prompt_blocks=PROMPT_TOKENS // size.block_size, rng=Random(SEED))
        gc.collect()
        num_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    with capsys.disabled():
        print(f"\n{name_of(size)}: {num_bytes / loaded.num_held_blocks:.1f} bytes a held block")
    assert loaded.num_held_blocks == size.num_replicas * size.capacity_blocks


def measure_choose(benchmark: BenchmarkFixture, loaded: LoadedRouter, make_request: Callable[[], RouteRequest]) -> None:
    """Each round decides on a request of its own, while those before it go by."""

    def settle() -> tuple[tuple[RouteRequest], dict[str, object]]:
        loaded.go_by()
        return (make_request(),), {}

    benchmark.pedantic(loaded.choose, setup=settle, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)
    loaded.prefill_chosen()
    loaded.finish_chosen()


def measure(benchmark: BenchmarkFixture, call: Callable[[], None], *, prepare: Callable[[], None]) -> None:
    """Time a call, each round after a `prepare` of its own."""
    benchmark.pedantic(call, setup=prepare, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)

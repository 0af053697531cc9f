"""The simulator's second tier, and the router's belief in one, beside vLLM's own offloading.

vLLM's tier is an LRU too, with other ties. What a prompt adds is stored after what it continues was touched, so it
counts as used later, and blocks that are copied together get their places in the order of a set. Where the tier has to
evict, it therefore loses the beginnings of some prompts, with which the rest is lost, and gives less back than a true
LRU of its size. The router does not know that: it learns the share that comes.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from loadtests.replay.engine import Engine, EngineOptions
from loadtests.replay.trace import TraceRequest
from router import Replica, ReplicaId, RequestId, Router, RouteRequest, hash_blocks, root_hash
from serve_app.messages.kv_updates import KvChange, KvRemoved, KvStored
from serve_app.messages.receipts import Prefilled
from serve_app.replica.kv_events.engine_blocks import EngineBlocks
from serve_app.replica.kv_events.wire import EngineBatch
from tests.builders import BLOCK_SIZE, ROOT, make_router
from tests.loadtests.vllm_tiers import Cached, VllmTiers

HOME = ReplicaId("home")

pytestmark = [
    pytest.mark.usefixtures("vllm"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]


def make_prompts(rng: Random, *, num_prompts: int, max_tokens: int, num_sessions: int = 12) -> Iterator[list[int]]:
    """Conversations that take turns, and begin anew when they are too long; none ends with a full block."""
    sessions = [[rng.randrange(2)] * BLOCK_SIZE for _ in range(num_sessions)]
    for _ in range(num_prompts):
        session = rng.choice(sessions)
        if len(session) > max_tokens:
            session[:] = [rng.randrange(2)] * BLOCK_SIZE
        session += [rng.randrange(3) for _ in range(rng.randint(1, 8))]
        session += [2] * (len(session) % BLOCK_SIZE == 0)
        yield list(session)


class Simulated:
    """The simulator's engine, a prompt at a time."""

    def __init__(self, *, num_blocks: int, num_host_blocks: int) -> None:
        sizes = {"kv_capacity_tokens": num_blocks * BLOCK_SIZE, "host_capacity_tokens": num_host_blocks * BLOCK_SIZE}
        self._engine = Engine(EngineOptions(**sizes), block_size=BLOCK_SIZE)

    def serve(self, prompt: list[int]) -> Cached:
        """One token is answered; returns what was reused."""
        hashes = hash_blocks(prompt, block_size=BLOCK_SIZE, root=ROOT)
        self._engine.submit(RequestId("a"), TraceRequest(0, len(prompt), 1, hashes, ()))
        outputs = []
        while self._engine.start_step() is not None:
            outputs += self._engine.finish_step()
        (prefilled,) = (each for each in outputs if isinstance(each, Prefilled))
        external_tokens = prefilled.external_cached_tokens
        return Cached(prefilled.cached_tokens - external_tokens, external_tokens)


@pytest.mark.parametrize(
    ("num_blocks", "num_host_blocks", "least_share"), [(20, 300, 1.0), (20, 80, 0.85), (40, 60, 0.5)]
)
def test_a_tier_gives_back_what_the_simulators_does(
    num_blocks: int, num_host_blocks: int, least_share: float, tmp_path: Path
) -> None:
    """From the GPU's cache exactly; from the tier too, as long as it does not evict, and the less the smaller it is."""
    sizes = {"num_blocks": num_blocks, "num_host_blocks": num_host_blocks}
    vllm, simulated = VllmTiers(tmp_path, block_size=BLOCK_SIZE, **sizes), Simulated(**sizes)
    prompts = list(make_prompts(Random(1), num_prompts=400, max_tokens=(num_blocks - 5) * BLOCK_SIZE))
    pairs = [(vllm.serve(prompt), simulated.serve(prompt)) for prompt in prompts]
    assert [real.local for real, _ in pairs] == [same.local for _, same in pairs]
    real_tokens, same_tokens = (sum(each.external for each in side) for side in zip(*pairs, strict=True))
    assert same_tokens > 1000
    assert least_share * same_tokens <= real_tokens <= same_tokens
    if least_share == 1.0:
        assert [real for real, _ in pairs] == [same for _, same in pairs]


@pytest.mark.parametrize(("num_blocks", "num_host_blocks"), [(20, 300), (20, 80), (40, 60)])
def test_a_router_comes_to_expect_what_the_tier_gives_back(
    num_blocks: int, num_host_blocks: int, tmp_path: Path
) -> None:
    """In sum, after it has learned from the first half; nothing is expected before something came."""
    vllm = VllmTiers(tmp_path, block_size=BLOCK_SIZE, num_blocks=num_blocks, num_host_blocks=num_host_blocks)
    router = make_router()
    router.set_replicas([Replica(HOME, 0, (num_blocks - 1) * BLOCK_SIZE, num_host_blocks * BLOCK_SIZE)])
    prompts = list(make_prompts(Random(2), num_prompts=800, max_tokens=(num_blocks - 5) * BLOCK_SIZE))
    expected_tokens, real_tokens = [], []
    for number, prompt in enumerate(prompts):
        hashes = hash_blocks(prompt, block_size=BLOCK_SIZE, root=ROOT)
        request = RouteRequest(RequestId(str(number)), "m", "t", len(prompt), hashes)
        expected_tokens.append(router.choose(request, now=0).reservation.external_tokens)
        cached = vllm.serve(prompt)
        real_tokens.append(cached.external)
        router.on_prefilled(
            request.request_id,
            prompt_tokens=len(prompt),
            cached_tokens=cached.local + cached.external,
            external_cached_tokens=cached.external,
            now=0,
        )
        router.on_finished(request.request_id, now=0)
    first = next(number for number, tokens in enumerate(real_tokens) if tokens)
    assert not any(expected_tokens[: first + 1])
    half = len(prompts) // 2
    assert sum(real_tokens[half:]) > 1000
    assert sum(expected_tokens[half:]) == pytest.approx(sum(real_tokens[half:]), rel=0.1)


@pytest.mark.parametrize("is_describing", [False, True])
def test_events_of_the_second_tier_leave_the_first_one_exact(is_describing: bool, tmp_path: Path) -> None:
    """vLLM tells of both in one stream, of the second with or without tokens. What is known of the GPU's cache is what
    vLLM then finds there.
    """
    vllm = VllmTiers(
        tmp_path,
        block_size=BLOCK_SIZE,
        num_blocks=20,
        num_host_blocks=80,
        is_telling=True,
        is_describing=is_describing,
    )
    account = EngineBlocks(model="m", block_size=BLOCK_SIZE)
    router = make_router()
    router.set_replicas([Replica(HOME, 0, 20 * BLOCK_SIZE, 80 * BLOCK_SIZE)])
    router.on_blocks_cleared(HOME)
    root = root_hash(model="m", adapter="", tenant="", cache_salt="")
    media: Counter[str | None] = Counter()
    for prompt in make_prompts(Random(3), num_prompts=150, max_tokens=15 * BLOCK_SIZE):
        hashes = hash_blocks(prompt, block_size=BLOCK_SIZE, root=root)
        known_tokens = BLOCK_SIZE * router.cluster.holders.matched_blocks(HOME, hashes)
        assert vllm.serve(prompt).local == known_tokens
        for told in vllm.take_events():
            for event in msgspec.msgpack.decode(told, type=EngineBatch).events:
                media[getattr(event, "medium", None)] += 1
                _tell(router, account.apply(event))
    router.check_integrity()
    assert media["GPU"] > 100
    assert media["CPU"] > 100


def _tell(router: Router, change: KvChange | None) -> None:
    match change:
        case KvStored():
            router.on_blocks_stored(HOME, change.parent, change.block_hashes)
        case KvRemoved():
            router.on_blocks_removed(HOME, change.block_hashes)

"""An engine that reused less than estimated corrects the estimate of everything that was used before."""

from random import Random

import pytest

from router import Router
from tests.builders import BLOCK_SIZE, make_request, make_router

CAPACITY_BLOCKS = 1000
NUM_BLOCKS = 4
"""Blocks of each prompt."""


class LruEngine:
    """One engine's prefix cache, of whole prompts that share nothing; the one used longest ago goes first."""

    def __init__(self, capacity_blocks: int = CAPACITY_BLOCKS) -> None:
        self._prompts: dict[int, None] = {}
        self._max_prompts = capacity_blocks // NUM_BLOCKS

    def serve(self, prompt: int) -> int:
        """Returns the cached tokens."""
        cached_tokens = NUM_BLOCKS * BLOCK_SIZE if prompt in self._prompts else 0
        self._prompts.pop(prompt, None)
        self._prompts[prompt] = None
        if len(self._prompts) > self._max_prompts:
            del self._prompts[next(iter(self._prompts))]
        return cached_tokens

    def reset(self) -> None:
        """Behind the router's back."""
        self._prompts.clear()


def is_predicted(router: Router, engine: LruEngine, prompt: int, number: int, *, is_looked_up: bool = True) -> bool:
    """Serve a prompt. Returns whether as much was reused as the router estimated."""
    request = make_request(f"{number}", *(NUM_BLOCKS * prompt + block for block in range(NUM_BLOCKS)))
    decision = router.choose(request, now=0).decision
    cached_tokens = engine.serve(prompt) if is_looked_up else 0
    router.on_prefilled(
        request.request_id,
        prompt_tokens=request.num_prompt_tokens,
        cached_tokens=cached_tokens,
        now=0,
        is_looked_up=is_looked_up,
    )
    router.on_finished(request.request_id, now=0)
    router.check_integrity()
    return decision.believed_cached_tokens == cached_tokens


@pytest.fixture
def router() -> Router:
    """One replica."""
    return make_router(num_replicas=1, kv_capacity_tokens=CAPACITY_BLOCKS * BLOCK_SIZE)


@pytest.mark.parametrize("seed", range(5))
def test_a_reset_behind_its_back_is_found_out_soon(router: Router, seed: int) -> None:
    """A few misses tell of all two hundred prompts that were cached."""
    rng, engine, num_prompts = Random(seed), LruEngine(), 200
    for number in range(num_prompts):
        assert is_predicted(router, engine, number, number)
    engine.reset()
    wrong = [
        number for number in range(1000, 1300) if not is_predicted(router, engine, rng.randrange(num_prompts), number)
    ]
    assert len(wrong) == 2
    assert wrong[-1] < 1050


def test_an_engine_that_holds_less_than_it_says_is_followed(router: Router) -> None:
    """Running requests take room. Prompts in turn, more than fit, are never there; each miss tells of the next ones."""
    engine = LruEngine(CAPACITY_BLOCKS // 2)
    predicted = [is_predicted(router, engine, number % 200, number) for number in range(1000)]
    assert predicted[:200] == [True] * 200
    assert sum(predicted[300:]) > 0.95 * len(predicted[300:])


def test_a_request_that_wants_no_cache_says_nothing_of_it(router: Router) -> None:
    """Nothing is reused for it, and everything is still cached."""
    engine = LruEngine()
    for number in range(100):
        is_predicted(router, engine, number, number)
    assert not is_predicted(router, engine, 99, 1000, is_looked_up=False)
    assert all(is_predicted(router, engine, number, 2000 + number) for number in range(100))

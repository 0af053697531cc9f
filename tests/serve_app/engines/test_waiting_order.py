"""The rule by which waiting prompts go, and its bound."""

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.engines.waiting_order import ANSWER_TOKENS, NUM_LOOKS, OVERTAKING, CachedPrefix, WaitingOrder

BLOCK_SIZE = 16


def make_prefix(num_tokens: int, held: set[int] | None = None) -> CachedPrefix:
    """A prefix of a prompt whose cached blocks are in `held`, which may change."""
    blocks = set() if held is None else held
    return CachedPrefix(
        num_tokens=num_tokens,
        num_blocks=(num_tokens - 1) // BLOCK_SIZE,
        block_size=BLOCK_SIZE,
        is_cached=lambda index: index in blocks,
    )


def make_order(*tokens: int, overtaking: float = OVERTAKING) -> WaitingOrder[str]:
    """Uncached prompts of so many tokens, named a, b, c ... as they came."""
    order: WaitingOrder[str] = WaitingOrder(overtaking=overtaking)
    for name, num_tokens in zip("abcdefgh", tokens, strict=False):
        order.add(name, make_prefix(num_tokens))
    return order


def drain(order: WaitingOrder[str]) -> str:
    """All names, in the order in which they go."""
    names = ""
    while order:
        names += order.choose()
        order.start(names[-1])
    return names


# The prompts' tokens as they came, and who goes when. An answer is 256 tokens of work, and half of the work before and
# in a prompt may overtake it.
@pytest.mark.parametrize(
    ("tokens", "overtaking", "names"),
    [
        ((744, 244), OVERTAKING, "ba"),  # a has 1,000 of work, so 500 may go before it: exactly b's
        ((744, 245), OVERTAKING, "ab"),  # 501
        ((744, 44, 44), OVERTAKING, "bac"),  # b's 300, but not c's as well
        ((3744, 744, 44), OVERTAKING, "cba"),  # a may be overtaken by 2,000, b by 2,500: the 300 and the 1,000 fit
        ((3744, 44, 44, 44), OVERTAKING, "bcda"),  # equal ones go as they came
        ((3744, 744, 44), 0, "abc"),  # first come, first served
        ((10_000, 9_000, 100, 5_000), 100, "cdba"),  # without a bound that matters, the shortest first
    ],
)
def test_the_shortest_goes_unless_too_much_overtakes(tokens: tuple[int, ...], overtaking: float, names: str) -> None:
    """Row by row."""
    assert drain(make_order(*tokens, overtaking=overtaking)) == names


def test_who_was_put_back_goes_before_all() -> None:
    """The last one first, and no one counts that as overtaking."""
    order = make_order(2000, 10)
    order.put_back("x")
    order.put_back("y")
    assert list(order) == ["y", "x", "a", "b"]
    assert len(order) == 4
    assert "x" in order
    assert drain(order) == "yxba"


def test_whoever_leaves_is_not_overtaken_any_more() -> None:
    """Waiting or put back; the others stay."""
    order = make_order(1000, 900, 10)
    order.put_back("x")
    order.remove("x")
    order.remove("c")
    assert drain(order) == "ab"
    with pytest.raises(ValueError, match="not in list"):
        order.remove("c")


def test_prefix_hits_are_looked_up_again() -> None:
    """What was computed in between makes a prompt short, what was evicted makes it long again."""
    held: set[int] = set()
    order: WaitingOrder[str] = WaitingOrder(overtaking=OVERTAKING)
    order.add("first", make_prefix(1600))
    order.add("second", make_prefix(1601, held))
    assert order.choose() == "first"
    held |= set(range(75))
    assert order.choose() == "second"
    held.clear()
    assert order.choose() == "first"


def test_many_are_looked_up_in_turn() -> None:
    """Of five times as many as are looked up at once, the one that became short is found at the fifth choice."""
    held: set[int] = set()
    order: WaitingOrder[int] = WaitingOrder(overtaking=OVERTAKING)
    for number in range(5 * NUM_LOOKS):
        order.add(number, make_prefix(1601, held if number == 5 * NUM_LOOKS - 1 else None))
    held |= set(range(100))
    assert [order.choose() for _ in range(6)] == [0, 0, 0, 0, 5 * NUM_LOOKS - 1, 5 * NUM_LOOKS - 1]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_a_prefix_is_as_long_as_what_is_cached(depths: list[int]) -> None:
    """However the leading blocks come and go, and when they do not, two are looked at."""
    depth, looked = 0, list[int]()

    def is_cached(index: int) -> bool:
        looked.append(index)
        return index < depth

    prefix = CachedPrefix(num_tokens=500, num_blocks=31, block_size=BLOCK_SIZE, is_cached=is_cached)
    for depth in depths:
        assert prefix.uncached_tokens() == 500 - BLOCK_SIZE * min(depth, 31)
        looked.clear()
        prefix.uncached_tokens()
        assert len(looked) <= 2


@dataclass
class Life:
    """What becomes of a prompt, in tokens of work."""

    first_come_tokens: int
    """Before and in it when it came."""
    overtaken_tokens: int = 0


def play(overtaking: float, *, seed: int, num_events: int = 300) -> tuple[dict[int, Life], list[int]]:
    """Prompts of very different lengths come and go at random, cached parts of them too; returns their lives, and in
    which order they went.
    """
    rng = Random(seed)
    order: WaitingOrder[int] = WaitingOrder(overtaking=overtaking)
    lives: dict[int, Life] = {}
    prefixes: dict[int, tuple[CachedPrefix, set[int]]] = {}
    gone: list[int] = []
    arrivals = iter(range(num_events))
    while order or not gone:
        number = next(arrivals, None) if not order or rng.random() < 0.55 else None
        if number is not None:
            held = set(range(rng.randrange(20)))
            prefix = make_prefix(int(2 ** rng.uniform(4, 15)), held)
            known_tokens = sum(order.work_tokens(other) for other in order)
            order.add(number, prefix)
            prefixes[number] = prefix, held
            lives[number] = Life(known_tokens + order.work_tokens(number))
            continue
        for _, held in prefixes.values():
            if rng.random() < 0.1:
                held.symmetric_difference_update(range(rng.randrange(20), 20))
        chosen = order.choose()
        work_tokens = order.work_tokens(chosen)
        order.start(chosen)
        del prefixes[chosen]
        gone.append(chosen)
        for other in order:
            if other < chosen:
                lives[other].overtaken_tokens += work_tokens
    return lives, gone


@given(st.integers(0, 10_000), st.sampled_from([0, 0.25, OVERTAKING, 1.0, 4.0]))
def test_no_prompt_is_overtaken_by_more_than_the_bound(seed: int, overtaking: float) -> None:
    """Whatever comes and whatever happens to the cache."""
    lives, gone = play(overtaking, seed=seed)
    assert sorted(gone) == sorted(lives)
    for life in lives.values():
        assert life.overtaken_tokens <= overtaking * life.first_come_tokens


def test_the_bound_is_reached() -> None:
    """Without it, the same arrivals overtake more, so the property test can fail."""
    assert any(
        life.overtaken_tokens > OVERTAKING * life.first_come_tokens
        for seed in range(5)
        for life in play(1000.0, seed=seed)[0].values()
    )


@given(st.integers(0, 10_000))
def test_without_overtaking_all_go_as_they_came(seed: int) -> None:
    """First come, first served."""
    _, gone = play(0, seed=seed)
    assert gone == sorted(gone)


def test_the_longest_goes_though_short_ones_never_end() -> None:
    """A prompt of 100,000 tokens, and a fully cached one that comes before each choice: after 196 it is its turn."""
    order: WaitingOrder[int] = WaitingOrder(overtaking=OVERTAKING)
    order.add(-1, make_prefix(100_000))
    num_before = 0
    while True:
        order.add(num_before, make_prefix(1))
        chosen = order.choose()
        order.start(chosen)
        if chosen == -1:
            break
        num_before += 1
    assert num_before == int(OVERTAKING * (100_000 + ANSWER_TOKENS) / (1 + ANSWER_TOKENS)) == 195

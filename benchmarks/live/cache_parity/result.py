"""What the engine and the simulator reused, request by request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.table import Table

from benchmarks.live.cache_parity.questions import Answered, Kind, PromptQuestion
from loadtests.report.tables import make_table

MIN_EVICTED_SHARE = 0.3
"""The share of blocks that must have been evicted; with less, being right is too easy."""
MAX_SHOWN = 20


class Cause(StrEnum):
    """How the two can differ."""

    EVICTED = "the simulator had evicted what the engine still cached"
    HELD = "the simulator still cached what the engine had evicted"


@dataclass(frozen=True, slots=True)
class Pair:
    """One request, as the engine and the simulator served it."""

    served: Answered
    simulated_tokens: int

    @property
    def question(self) -> PromptQuestion:
        """What was asked."""
        return self.served.question

    @property
    def cause(self) -> Cause | None:
        """How the two differ; None where both reused the same."""
        difference = self.simulated_tokens - self.served.cached_tokens
        if difference == 0:
            return None
        return Cause.HELD if difference > 0 else Cause.EVICTED


@dataclass(frozen=True, slots=True)
class CacheParity:
    """All requests of one run, in order."""

    pairs: Sequence[Pair]
    block_size: int
    kv_capacity_tokens: int

    @property
    def num_cached_blocks(self) -> int:
        """Blocks that the engine put into its cache, by its own word of what it reused: all full ones, of prompt and
        answer, that it computed. The answer's last token is never computed.
        """
        return sum(
            (len(pair.question.prompt) + len(pair.served.answer) - 1) // self.block_size
            - pair.served.cached_tokens // self.block_size
            for pair in self.pairs
        )

    @property
    def evicted_share(self) -> float:
        """The least share of all blocks ever cached that was evicted: no more than the capacity are left."""
        num_cached = self.num_cached_blocks
        num_left = self.kv_capacity_tokens // self.block_size
        return max(0, num_cached - num_left) / num_cached if num_cached else 0.0

    @property
    def hit_rate(self) -> float:
        """The engine's hit rate."""
        prompt_tokens = sum(len(pair.question.prompt) for pair in self.pairs)
        return sum(pair.served.cached_tokens for pair in self.pairs) / prompt_tokens

    def faults(self) -> list[str]:
        """What must not be, in words."""
        faults = []
        if self.evicted_share < MIN_EVICTED_SHARE:
            faults.append(
                f"only {self.evicted_share:.0%} of the cached blocks were evicted, less than {MIN_EVICTED_SHARE:.0%}: "
                "send more requests"
            )
        for cause in Cause:
            num_requests = sum(pair.cause is cause for pair in self.pairs)
            if num_requests:
                faults.append(f"{num_requests} of {len(self.pairs)} requests differ: {cause}")
        return faults


def kind_table(result: CacheParity) -> Table:
    """One line for each kind of request."""
    table = make_table(
        "Cached tokens by the engine and by the simulator",
        left=["prompt"],
        right=["requests", "prompt tokens", "engine", "simulator", "differing requests"],
    )
    for kind in Kind:
        pairs = [pair for pair in result.pairs if pair.question.kind is kind]
        if pairs:
            _add_row(table, kind, pairs)
    _add_row(table, "all", result.pairs)
    return table


def _add_row(table: Table, name: str, pairs: Sequence[Pair]) -> None:
    numbers = (
        len(pairs),
        sum(len(pair.question.prompt) for pair in pairs),
        sum(pair.served.cached_tokens for pair in pairs),
        sum(pair.simulated_tokens for pair in pairs),
        sum(pair.cause is not None for pair in pairs),
    )
    table.add_row(name, *(f"{number:,}" for number in numbers))


def lines(result: CacheParity) -> Iterator[str]:
    """What the table does not say."""
    yield (
        f"{result.num_cached_blocks:,} blocks of {result.block_size} tokens were cached, at least "
        f"{result.evicted_share:.1%} of them evicted; the cache has {result.kv_capacity_tokens:,} tokens; "
        f"hit rate {result.hit_rate:.1%}"
    )
    differing = [(number, pair) for number, pair in enumerate(result.pairs) if pair.cause is not None]
    for number, pair in differing[:MAX_SHOWN]:
        yield (
            f"request {number}, {pair.question.kind}, {len(pair.question.prompt)} tokens: engine "
            f"{pair.served.cached_tokens}, simulator {pair.simulated_tokens}: {pair.cause}"
        )

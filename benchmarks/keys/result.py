"""Where router and replica differ, by source and position, never by text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from benchmarks.keys.bodies import Endpoint, Question
from benchmarks.keys.replica import ReplicaPrompt
from benchmarks.keys.router import Ids, Pass, Reading
from loadtests.report.tables import make_table

MAX_SHOWN = 30


@dataclass(frozen=True, slots=True)
class KeyComparison:
    """One body: what the router read, each time, and what the replica got."""

    question: Question
    readings: Mapping[Pass, Reading]
    report: ReplicaPrompt

    @property
    def is_refused(self) -> bool:
        """Whether both refused it: there is no key, and no prompt either."""
        return self.report.ids is None and all(reading.ids is None for reading in self.readings.values())

    def differences(self) -> list[str]:
        """The differences in words, without the text."""
        question = self.question
        place = f"{question.endpoint}, {question.source} {question.number}, {question.variation}"
        differences = [
            f"{place}, {each}: {_difference(reading.ids, self.report.ids)}"
            for each, reading in self.readings.items()
            if reading.ids != self.report.ids
        ]
        if not self.report.is_proven:
            differences.append(f"{place}: the replica's answer contradicts the ids that it rendered")
        return differences


def _difference(router: Ids | None, replica: Ids | None) -> str:
    if router is None or replica is None:
        return "only the router has none" if router is None else "the replica refused it"
    same = next(
        (index for index, pair in enumerate(zip(router, replica, strict=False)) if pair[0] != pair[1]),
        min(len(router), len(replica)),
    )
    return f"router {len(router)} tokens, replica {len(replica)}, equal for the first {same}"


@dataclass(frozen=True, slots=True)
class FamilyResult:
    """All bodies, through one family of models."""

    family: str
    comparisons: Sequence[KeyComparison]
    tokenizer: str
    """The router's tokenizer, after all bodies."""
    is_exact: bool
    """Whether the memo's own checks found nothing."""

    def differences(self) -> list[str]:
        """The differences of all bodies."""
        return [line for comparison in self.comparisons for line in comparison.differences()]

    def faults(self) -> Iterator[str]:
        """What must not be."""
        num_differing = sum(bool(comparison.differences()) for comparison in self.comparisons)
        if num_differing:
            yield f"{self.family}: {num_differing} of {len(self.comparisons)} prompts differ"
        if not self.is_exact:
            yield f"{self.family}: the memo found itself wrong"


def result_table(results: Sequence[FamilyResult]) -> Table:
    """A line for each family and endpoint."""
    table = make_table(
        "Token ids that the router read, against those that the replica got",
        left=["family", "endpoint"],
        right=["prompts", "refused by both", "tokens", "differing", "by fastokens", "rendered fast, new", "again"],
    )
    for result in results:
        for endpoint in Endpoint:
            chosen = [each for each in result.comparisons if each.question.endpoint is endpoint]
            if chosen:
                table.add_row(result.family, endpoint, *_cells(chosen))
        table.add_row(result.family, "all", *_cells(result.comparisons), end_section=True)
    return table


def _cells(comparisons: Sequence[KeyComparison]) -> Iterator[str]:
    yield f"{len(comparisons):,}"
    yield f"{sum(comparison.is_refused for comparison in comparisons):,}"
    num_tokens = sum(len(comparison.report.ids or ()) for comparison in comparisons)
    yield f"{num_tokens:,}"
    yield f"{sum(bool(comparison.differences()) for comparison in comparisons):,}"
    yield _share(comparison.readings[Pass.NEW].is_tokenized_fast for comparison in comparisons)
    has_chats = any(comparison.question.endpoint is Endpoint.CHAT for comparison in comparisons)
    for each in (Pass.NEW, Pass.AGAIN):
        yield _share(comparison.readings[each].is_rendered_fast for comparison in comparisons) if has_chats else "-"


def _share(is_fast: Iterable[bool]) -> str:
    values = list(is_fast)
    return f"{sum(values) / len(values):.1%}"


def lines(results: Sequence[FamilyResult]) -> Iterator[str]:
    """What the table does not say."""
    for result in results:
        yield f"{result.family}: tokenised by {result.tokenizer}"
        differences = result.differences()
        yield from (f"{result.family}, {line}" for line in differences[:MAX_SHOWN])
        if len(differences) > MAX_SHOWN:
            yield f"{result.family}: and {len(differences) - MAX_SHOWN} more differences"


def as_json(results: Sequence[FamilyResult]) -> dict[str, Any]:
    """Every body's place and lengths."""
    return {
        result.family: [
            {
                "source": comparison.question.source,
                "number": comparison.question.number,
                "endpoint": comparison.question.endpoint,
                "variation": comparison.question.variation,
                "tokens": None if comparison.report.ids is None else len(comparison.report.ids),
                "status": comparison.report.status,
                "readings": {
                    each: {"tokenized_fast": reading.is_tokenized_fast, "rendered_fast": reading.is_rendered_fast}
                    for each, reading in comparison.readings.items()
                },
                "differences": comparison.differences(),
            }
            for comparison in result.comparisons
        ]
        for result in results
    }

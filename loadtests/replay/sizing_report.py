"""Answers of a sizing, as a table, as a page and as JSON."""

import dataclasses
from collections.abc import Sequence

from loadtests.replay.sizing import SizingAnswer, SizingQuestion, kv_in_all, num_replicas, smallest
from loadtests.report.charts import ChartSeries, line_chart
from loadtests.report.json_text import json_text
from loadtests.report.origin import versions
from loadtests.report.page import Page, PageChart, Section
from loadtests.report.tables import TextTable

NUM_COLOURS = 8
"""Colours of the page; styles beyond are the same, dashed."""
SHOWN_TIMES_TARGET = 4
"""How many times the target a trial may take and still be drawn: those far from it would flatten the chart."""
WORDS = (
    (
        "pace",
        "Prompt tokens a second over the whole trace, of which a replica prefills those that it has not cached.",
    ),
    ("host tier", "Host memory with a copy of what was computed; reading it back costs its transfer, not a prefill."),
    ("hit rate", "Cached prompt tokens of all prompt tokens, those read back from the host included."),
    ("p90 TTFT", "Seconds until nine of ten requests have their first token; mean over the seeds."),
)


def headline(question: SizingQuestion) -> str:
    """What was asked, in one line."""
    experiment = question.experiment
    return (
        f"{experiment.workload.trace.name} at {question.prompt_tokens_per_s:,.0f} prompt tokens a second, routed by "
        f"{experiment.policies[0]}: p90 TTFT of at most {question.p90_ttft_s:g} s"
    )


def answer_table(question: SizingQuestion, answers: Sequence[SizingAnswer]) -> TextTable:
    """A row for each size."""
    return TextTable(
        "Fewest replicas that meet it",
        ["KV tokens each", "host tokens each", "replicas", "p90 TTFT s", "hit rate", "KV tokens in all"],
        [_cells(question, answer) for answer in answers],
    )


def conclusion(question: SizingQuestion, answers: Sequence[SizingAnswer]) -> str:
    """The smallest in replicas and in KV, and what a host tier changes."""
    without, with_host = (_with_host(answers, has_host=has_host) for has_host in (False, True))
    fewest = _answer_text(question, smallest(without, by=num_replicas))
    lines = [f"Fewest replicas: {fewest}.", f"Least KV: {_answer_text(question, smallest(without, by=kv_in_all))}."]
    if with_host:
        fewest = _answer_text(question, smallest(with_host, by=num_replicas))
        lines.append(f"Fewest replicas with a host tier: {fewest}.")
    return " ".join(lines)


def as_json(question: SizingQuestion, answers: Sequence[SizingAnswer], *, command: str) -> str:
    """What was asked, and every trial."""
    content = {
        "command": command,
        "versions": versions(),
        "question": dataclasses.asdict(question),
        "answers": [dataclasses.asdict(answer) for answer in answers],
    }
    return json_text(content)


def as_html(question: SizingQuestion, answers: Sequence[SizingAnswer], *, command: str) -> str:
    """One self-contained page."""
    charts = [_needed(answers), _p90(question, answers)]
    page = Page(
        title=headline(question),
        command=command,
        tables=[answer_table(question, answers)],
        legend=list(zip(map(_size_text, answers), _styles(answers), strict=True)),
        sections=[Section("What was tried", charts, conclusion(question, answers))],
        words=WORDS,
    )
    return page.as_html()


def _cells(question: SizingQuestion, answered: SizingAnswer) -> list[str]:
    size, needed = answered.size, answered.needed
    sizes = [f"{size.kv_tokens:,}", f"{size.host_tokens:,}"]
    if needed is None:
        return [*sizes, f"> {question.max_replicas}", f"{answered.trials[-1].p90_ttft_s:.3f}", "-", "-"]
    return [
        *sizes,
        str(needed.num_replicas),
        f"{needed.p90_ttft_s:.3f}",
        f"{needed.hit_rate:.4f}",
        f"{needed.num_replicas * size.kv_tokens:,}",
    ]


def _answer_text(question: SizingQuestion, answered: SizingAnswer | None) -> str:
    if answered is None or answered.needed is None:
        return f"more than {question.max_replicas} of every size that was tried"
    host = f" and {answered.size.host_tokens:,} host tokens" if answered.size.host_tokens else ""
    return f"{answered.needed.num_replicas} of {answered.size.kv_tokens:,} KV tokens{host} each"


def _size_text(answered: SizingAnswer) -> str:
    host = f" + {answered.size.host_tokens:,} in host memory" if answered.size.host_tokens else ""
    return f"{answered.size.kv_tokens:,} KV tokens{host}"


def _with_host(answers: Sequence[SizingAnswer], *, has_host: bool) -> list[SizingAnswer]:
    return [answer for answer in answers if bool(answer.size.host_tokens) == has_host]


def _styles(answers: Sequence[SizingAnswer]) -> list[int]:
    """A colour for each KV size, dashed with a host tier."""
    kv_sizes = list(dict.fromkeys(answer.size.kv_tokens for answer in answers))
    return [
        kv_sizes.index(answer.size.kv_tokens) % NUM_COLOURS + NUM_COLOURS * bool(answer.size.host_tokens)
        for answer in answers
    ]


def _needed(answers: Sequence[SizingAnswer]) -> PageChart:
    grey = NUM_COLOURS - 1
    series = [
        ChartSeries("without a host tier", _points(_with_host(answers, has_host=False)), grey),
        ChartSeries("with a host tier", _points(_with_host(answers, has_host=True)), grey + NUM_COLOURS),
    ]
    svg = line_chart(series, x_label="KV tokens of each replica", y_label="replicas needed", is_log_x=True)
    return PageChart("Replicas needed by KV size", svg, "Dashed with a host tier.")


def _points(answers: Sequence[SizingAnswer]) -> list[tuple[float, float]]:
    met = [(answer.size.kv_tokens, answer.needed.num_replicas) for answer in answers if answer.needed is not None]
    return sorted((float(kv_tokens), float(num)) for kv_tokens, num in met)


def _p90(question: SizingQuestion, answers: Sequence[SizingAnswer]) -> PageChart:
    most_s = SHOWN_TIMES_TARGET * question.p90_ttft_s
    series = [
        ChartSeries(
            _size_text(answer),
            [(float(trial.num_replicas), trial.p90_ttft_s) for trial in answer.trials if trial.p90_ttft_s <= most_s],
            style,
        )
        for answer, style in zip(answers, _styles(answers), strict=True)
    ]
    svg = line_chart(series, x_label="replicas", y_label="p90 TTFT, seconds", is_log_x=True)
    caption = f"Trials with at most {SHOWN_TIMES_TARGET} times the target of {question.p90_ttft_s:g} s."
    return PageChart("p90 TTFT by replicas", svg, caption)

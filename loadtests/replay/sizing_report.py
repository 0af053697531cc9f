"""Answers of a sizing, as cells of text and as a page."""

from collections.abc import Iterable, Iterator, Sequence

from loadtests.replay.page import PageChart, Section, render
from loadtests.replay.report_cells import Cells
from loadtests.replay.sizing import Answer, Question, kv_in_all, num_replicas, smallest
from loadtests.report.charts import Series, line_chart

NUM_COLOURS = 8
"""Of the page; styles beyond are the same, dashed."""
SHOWN_TIMES_TARGET = 4
"""Trials far from the target would flatten what is of interest."""
WORDS = (
    (
        "pace",
        "Prompt tokens a second over the whole trace; one replica prefills so many at most, and fewer are cached.",
    ),
    ("host tier", "Host memory with a copy of what was computed; reading it back costs its transfer, not a prefill."),
    ("hit rate", "Cached prompt tokens of all prompt tokens, those read back from the host included."),
    ("p90 TTFT", "Seconds until nine of ten requests have their first token; mean over the seeds."),
)


def headline(question: Question) -> str:
    """What was asked, in one line."""
    experiment = question.experiment
    return (
        f"{experiment.workload.trace.name} at {question.prompt_tokens_per_s:,.0f} prompt tokens a second, routed by "
        f"{experiment.policies[0]}: p90 TTFT of at most {question.p90_ttft_s:g} s"
    )


def answer_cells(question: Question, answers: Sequence[Answer]) -> Cells:
    """A row for each size."""
    return Cells(
        "Fewest replicas that meet it",
        ["KV tokens each", "host tokens each", "replicas", "p90 TTFT s", "hit rate", "KV tokens in all"],
        [_cells(question, each) for each in answers],
    )


def conclusion(question: Question, answers: Sequence[Answer]) -> str:
    """The smallest in replicas and in KV, and what a host tier changes."""
    without, with_host = ([each for each in answers if bool(each.size.host_tokens) == has] for has in (False, True))
    fewest = _answer_text(question, smallest(without, by=num_replicas))
    lines = [f"Fewest replicas: {fewest}.", f"Least KV: {_answer_text(question, smallest(without, by=kv_in_all))}."]
    if with_host:
        fewest = _answer_text(question, smallest(with_host, by=num_replicas))
        lines.append(f"Fewest replicas with a host tier: {fewest}.")
    return " ".join(lines)


def as_html(question: Question, answers: Sequence[Answer], *, command: str) -> str:
    """One self-contained page."""
    return render(
        title=headline(question),
        command=command,
        tables=[answer_cells(question, answers)],
        legend=list(zip(map(_size_text, answers), _styles(answers), strict=True)),
        sections=[
            Section("What was tried", [_needed(answers), _p90(question, answers)], conclusion(question, answers))
        ],
        words=WORDS,
    )


def _cells(question: Question, answered: Answer) -> list[str]:
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


def _answer_text(question: Question, answered: Answer | None) -> str:
    if answered is None or answered.needed is None:
        return f"more than {question.max_replicas} of every size that was tried"
    host = f" and {answered.size.host_tokens:,} host tokens" if answered.size.host_tokens else ""
    return f"{answered.needed.num_replicas} of {answered.size.kv_tokens:,} KV tokens{host} each"


def _size_text(answered: Answer) -> str:
    host = f" + {answered.size.host_tokens:,} in host memory" if answered.size.host_tokens else ""
    return f"{answered.size.kv_tokens:,} KV tokens{host}"


def _styles(answers: Sequence[Answer]) -> list[int]:
    """A colour for each KV size, dashed with a host tier."""
    kv_sizes = list(dict.fromkeys(each.size.kv_tokens for each in answers))
    colours = [kv_sizes.index(each.size.kv_tokens) % NUM_COLOURS for each in answers]
    return [colour + NUM_COLOURS * bool(each.size.host_tokens) for colour, each in zip(colours, answers, strict=True)]


def _needed(answers: Sequence[Answer]) -> PageChart:
    grey = NUM_COLOURS - 1
    series = [
        Series(name, sorted(_points(each for each in answers if bool(each.size.host_tokens) == has)), style)
        for name, has, style in (
            ("without a host tier", False, grey),
            ("with a host tier", True, grey + NUM_COLOURS),
        )
    ]
    svg = line_chart(series, x_label="KV tokens of each replica", y_label="replicas needed", is_log_x=True)
    return PageChart("Replicas needed by KV size", svg, "Dashed with a host tier.")


def _points(answers: Iterable[Answer]) -> Iterator[tuple[float, float]]:
    for each in answers:
        if each.needed is not None:
            yield float(each.size.kv_tokens), float(each.needed.num_replicas)


def _p90(question: Question, answers: Sequence[Answer]) -> PageChart:
    most_s = SHOWN_TIMES_TARGET * question.p90_ttft_s
    series = [
        Series(
            _size_text(each),
            [(float(trial.num_replicas), trial.p90_ttft_s) for trial in each.trials if trial.p90_ttft_s <= most_s],
            style,
        )
        for each, style in zip(answers, _styles(answers), strict=True)
    ]
    svg = line_chart(series, x_label="replicas", y_label="p90 TTFT, seconds", is_log_x=True)
    caption = f"Trials with at most {SHOWN_TIMES_TARGET} times the target of {question.p90_ttft_s:g} s."
    return PageChart("p90 TTFT by replicas", svg, caption)

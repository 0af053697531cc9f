"""Answers of a sizing, as cells of text and as a page."""

from collections.abc import Iterable, Sequence

from loadtests.replay.charts import Series, line_chart
from loadtests.replay.page import PageChart, Section, render
from loadtests.replay.report_cells import Cells
from loadtests.replay.sizing import Answer, Question, smallest

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
    """The smallest, and what a host tier changes."""
    without, with_host = ([each for each in answers if bool(each.size.host_tokens) == has] for has in (False, True))
    lines = [f"Smallest: {_answer_text(question, smallest(without))}."]
    if with_host:
        lines.append(f"With a host tier: {_answer_text(question, smallest(with_host))}.")
    return " ".join(lines)


def as_html(question: Question, answers: Sequence[Answer], *, command: str) -> str:
    """One self-contained page."""
    names = [_size_text(each) for each in answers]
    return render(
        title=headline(question),
        command=command,
        tables=[answer_cells(question, answers)],
        legend=names,
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
        return f"more than {question.max_replicas} replicas of every size that was tried"
    host = f" and {answered.size.host_tokens:,} host tokens" if answered.size.host_tokens else ""
    return f"{answered.needed.num_replicas} replicas of {answered.size.kv_tokens:,} KV tokens{host} each"


def _size_text(answered: Answer) -> str:
    host = f" + {answered.size.host_tokens:,} in host memory" if answered.size.host_tokens else ""
    return f"{answered.size.kv_tokens:,} KV tokens{host}"


def _needed(answers: Sequence[Answer]) -> PageChart:
    series = [
        Series(name, sorted(_points(each for each in answers if bool(each.size.host_tokens) == has)), style)
        for style, (name, has) in enumerate((("without a host tier", False), ("with a host tier", True)))
    ]
    svg = line_chart(series, x_label="KV tokens of each replica", y_label="replicas needed", is_log_x=True)
    return PageChart("Replicas needed by KV size", svg, "Blue without, orange with a host tier.")


def _points(answers: Iterable[Answer]) -> Iterable[tuple[float, float]]:
    return (
        (float(each.size.kv_tokens), float(each.needed.num_replicas)) for each in answers if each.needed is not None
    )


def _p90(question: Question, answers: Sequence[Answer]) -> PageChart:
    series = [
        Series(_size_text(each), [(float(trial.num_replicas), trial.p90_ttft_s) for trial in each.trials], style)
        for style, each in enumerate(answers)
    ]
    svg = line_chart(series, x_label="replicas", y_label="p90 TTFT, seconds", is_log_x=True, is_log_y=True)
    return PageChart("p90 TTFT by replicas", svg, f"Every trial; the target is {question.p90_ttft_s:g} s.")

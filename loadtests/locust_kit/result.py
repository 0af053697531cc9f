"""A run's result: as lines for the console, as rows of the page, as JSON. Pure."""

from collections.abc import Iterator, Sequence

from loadtests.locust_kit.options import RunOptions
from loadtests.locust_kit.totals import REAL, Totals
from loadtests.report.statistics import percentile

PERCENTILES = (50, 90, 95, 99)


def lines(totals: Totals, options: RunOptions, found_faults: Sequence[str]) -> Iterator[str]:
    """The last line says whether the run failed."""
    yield f"Warmroute: {options.workload}, seed {options.seed}{_engine(totals)}"
    yield "; ".join(f"{name}: {value}" for name, value in rows(totals))
    if totals.num_complete and not totals.cached_tokens:
        yield "No cached token was reported. Is llm.engine_kwargs.enable_prompt_tokens_details on?"
    yield from (f"FAIL: {fault}" for fault in found_faults)
    if not found_faults:
        yield "PASS" if options.slos else "PASS: no error too many; no SLO was set."


def rows(totals: Totals) -> list[tuple[str, str]]:
    """What Locust's own rows do not say."""
    shown = [
        ("hit rate", f"{totals.hit_rate:.4f}"),
        ("cached tokens", f"{totals.cached_tokens:,}"),
        ("prompt tokens", f"{totals.prompt_tokens:,}"),
        ("answer tokens", f"{totals.answer_tokens:,}"),
        ("sessions ended", f"{totals.num_sessions:,}"),
        ("requests", f"{totals.num_requests:,}"),
        ("shed", f"{totals.num_shed:,}"),
        ("errors", f"{totals.failure_to_count.total():,}"),
    ]
    return shown + ([("arrivals late at most", f"{totals.max_late_s * 1000:.0f} ms")] if totals.max_late_s else [])


def as_json(totals: Totals, options: RunOptions, found_faults: Sequence[str]) -> dict[str, object]:
    """Times in seconds."""
    return options.as_json() | {
        "engine": totals.engine,
        "hit_rate": totals.hit_rate,
        "cached_tokens": totals.cached_tokens,
        "prompt_tokens": totals.prompt_tokens,
        "answer_tokens": totals.answer_tokens,
        "sessions": totals.num_sessions,
        "requests": totals.num_requests,
        "complete": totals.num_complete,
        "shed": totals.num_shed,
        "errors": dict(totals.failure_to_count),
        "arrivals_late_at_most_s": totals.max_late_s,
        "rows": {row: _row(times_s) for row, times_s in sorted(totals.row_to_times_s.items())},
        "slos": [{"row": each.row, "percentile": each.percentile, "limit_ms": each.limit_ms} for each in options.slos],
        "missed": list(found_faults),
    }


def _row(times_s: Sequence[float]) -> dict[str, float]:
    percentiles = {f"p{percent}_s": percentile(times_s, percent) for percent in PERCENTILES}
    return {"count": len(times_s), "mean_s": sum(times_s) / len(times_s), **percentiles}


def _engine(totals: Totals) -> str:
    """Figures of an engine that is not real say so."""
    return "" if totals.engines <= {REAL} else f", engine: {totals.engine}"

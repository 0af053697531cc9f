"""A day: the trace's sessions, as often as one of ServeGen's models was asked in each ten minutes of a day."""

import csv
from pathlib import Path
from random import Random
from statistics import fmean

import zstandard

from benchmarks.virtual.autoscaling.traffic import ScalingTraffic, TrafficPhase, read_sessions, start_sessions
from loadtests.replay.trace import TraceError

WINDOW_S = 600.0
"""ServeGen's (github.com/alibaba/ServeGen)."""
DAY_S = 86_400.0


def make_day(trace: Path, rates: Path, *, model: str, day: int, mean_rps: float, seed: int) -> ScalingTraffic:
    """One of the days, counted from 0, with a mean rate of requests.

    Raises:
        TraceError: a file cannot be used.

    """
    shape = day_rates(rates, model=model, day=day)
    scale = mean_rps / fmean(shape)
    rng = Random(f"day {seed}")
    sessions = read_sessions(trace, rng=rng)
    requests = start_sessions(sessions, rates_rps=[scale * each for each in shape], window_s=WINDOW_S, rng=rng)
    return ScalingTraffic(requests, sessions.block_size, (TrafficPhase("day", 0.0, DAY_S),))


def day_rates(path: Path, *, model: str, day: int) -> list[float]:
    """Requests a second of all clients of a model, in each window of a day.

    Raises:
        TraceError: the file is absent or another, or has no such model or day.

    """
    rates_rps = [0.0] * round(DAY_S / WINDOW_S)
    try:
        with zstandard.open(path, "rt", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                window = int(float(row["t_s"]) / WINDOW_S) - day * len(rates_rps)
                if row["model"] == model and 0 <= window < len(rates_rps):
                    rates_rps[window] += float(row["rate_rps"])
    except OSError as error:
        raise TraceError(f"cannot read clients' rates {path}: {error.strerror}; give an existing file") from error
    except (KeyError, ValueError, zstandard.ZstdError) as error:
        raise TraceError(f"{path} is not ServeGen's table of rates: {type(error).__name__}: {error}") from error
    if not any(rates_rps):
        raise TraceError(f"{path} has no requests of model {model!r} on day {day}: choose others")
    return rates_rps

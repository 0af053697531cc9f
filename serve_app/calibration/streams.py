"""What the chunks of streamed answers tell about an engine's steps. Pure."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class StreamProgress(NamedTuple):
    """How far an answer was at a time."""

    at_s: float
    num_tokens: int
    cached_tokens: int | None = None
    """Number of the prompt's tokens that were cached, where the replica says so."""


def seconds_a_token(streams: Sequence[Sequence[StreamProgress]]) -> float | None:
    """The median stream's time from token to token, while all of them were being decoded; None if they never were.

    Several tokens may come in one chunk, so they are counted, not the chunks.
    """
    start_s = max(stream[0].at_s for stream in streams)
    end_s = min(stream[-1].at_s for stream in streams)
    times = []
    for stream in streams:
        within = [progress for progress in stream if start_s <= progress.at_s <= end_s]
        if within and within[-1].num_tokens > within[0].num_tokens:
            times.append((within[-1].at_s - within[0].at_s) / (within[-1].num_tokens - within[0].num_tokens))
    return median(times) if times else None

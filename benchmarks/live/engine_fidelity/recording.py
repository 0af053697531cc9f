"""A run of real engines, as far as it is needed to send it again. It has no texts: a seed makes the sessions."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtests.bench.records import SentTurn
from serve_app.messages.snapshot import short_id


class RecordingError(Exception):
    """A recording that cannot be used; the message says why."""


class ServedTurn(msgspec.Struct, frozen=True):
    """One request and its answer; tokens are the engine's own counts."""

    session: str
    turn: int
    sent_s: float
    """Seconds from the start of the run."""
    rank: int
    """Rank of the replica that served it."""
    prompt_tokens: int
    cached_tokens: int
    ttft_s: float

    @property
    def new_tokens(self) -> int:
        """Tokens of the prompt that the engine computed."""
        return self.prompt_tokens - self.cached_tokens


class Recording(msgspec.Struct, frozen=True):
    """A run."""

    workload: str
    """The workload's name in `loadtests.bench.traffic`."""
    num_sessions: int
    seed: int
    engine_model: dict[str, float]
    """What `warmroute calibrate` found for one of the engines, just before."""
    served: tuple[ServedTurn, ...]
    """Requests in order of sending."""

    def save(self, path: Path) -> None:
        """Write the recording as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)))


def load_recording(path: Path) -> Recording:
    """Read what `save` wrote.

    Raises:
        RecordingError: it is not that.

    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recording)
    except (OSError, msgspec.DecodeError) as error:
        raise RecordingError(f"{path} is no recording: {error}") from error


def served(records: Sequence[SentTurn], rank_to_replica: dict[int, str]) -> tuple[ServedTurn, ...]:
    """What became of a run's requests.

    Raises:
        RecordingError: one of them failed, or no known replica served it.

    """
    replica_to_rank = {short_id(replica): rank for rank, replica in rank_to_replica.items()}
    found = []
    for each in records:
        rank = replica_to_rank.get(short_id(each.replica or ""))
        if each.ttft_s is None or rank is None:
            raise RecordingError(
                f"{each.session}, turn {each.turn}: {each.outcome} (status {each.status}), replica {each.replica}"
            )
        sent_s = each.due_s + each.late_s
        found.append(
            ServedTurn(
                each.session,
                each.turn,
                sent_s,
                rank,
                each.prompt_tokens,
                each.cached_tokens,
                each.ttft_s - each.late_s,
            )
        )
    return tuple(sorted(found, key=lambda each: each.sent_s))

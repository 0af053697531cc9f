"""Turns of many sessions at once."""

from collections import defaultdict
from itertools import islice

from loadtests.client.turn_request import interleaved_turns


def test_the_same_seed_sends_the_same_and_sessions_go_on_in_order() -> None:
    """So many at a time; whose last turn was sent makes room for another."""
    first, second = (list(islice(interleaved_turns("m", num_open=8, seed=1), 300)) for _ in range(2))
    assert first == second
    session_to_turns = defaultdict[str, list[int]](list)
    for request in first:
        session, _, number = request.request_id.rpartition("-")
        session_to_turns[session].append(int(number))
    assert all(turns == list(range(len(turns))) for turns in session_to_turns.values())
    assert max(len(turns) for turns in session_to_turns.values()) > 2
    assert len(session_to_turns) > 8

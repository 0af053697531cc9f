"""Turns of sessions as the chat requests that clients send."""

from collections.abc import Iterator
from random import Random

import orjson

from loadtests.client.exchange import CHAT, JSON_HEADERS, ClientRequest
from loadtests.workloads import Session, Workload, default_texts, sessions


def turn_request(
    session: Session, number: int, *, model: str, headers: tuple[tuple[str, str], ...] = JSON_HEADERS
) -> ClientRequest:
    """The turn of that number, for a model by its name for clients."""
    content = orjson.dumps({"model": model, **session.turns[number].body})
    return ClientRequest(f"{session.session_id}-{number}", session.kind, CHAT, content, headers)


def interleaved_turns(model: str, *, num_open: int, seed: int) -> Iterator[ClientRequest]:
    """Requests without end: each is the next turn of one of the open sessions of all kinds, at random."""
    rng, coming = Random(f"turns {seed}"), sessions(Workload.MIX, default_texts(), seed=seed)
    under_way = [_turns(next(coming), model) for _ in range(num_open)]
    while True:
        place = rng.randrange(num_open)
        request = next(under_way[place], None)
        if request is None:
            under_way[place] = _turns(next(coming), model)
        else:
            yield request


def _turns(session: Session, model: str) -> Iterator[ClientRequest]:
    return (turn_request(session, number, model=model) for number in range(len(session.turns)))

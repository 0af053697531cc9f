"""The probe, on two made-up replicas behind a router that knows what they hold, or does not."""

from collections.abc import Callable
from itertools import count

import httpx
import orjson
import pytest

from loadtests.bench.knowledge import finds_what_it_sent


def client(choose: Callable[[list[set[str]], str], int], *, status: int = 200) -> httpx.Client:
    """Of an application whose router sees what two replicas hold."""
    held: list[set[str]] = [set(), set()]

    def answer(request: httpx.Request) -> httpx.Response:
        prompt = orjson.loads(request.content)["messages"][0]["content"]
        chosen = held[choose(held, prompt)]
        details = {"cached_tokens": 16} if prompt in chosen else None
        chosen.add(prompt)
        return httpx.Response(status, json={"usage": {"prompt_tokens_details": details}})

    return httpx.Client(transport=httpx.MockTransport(answer))


def knowing(held: list[set[str]], prompt: str) -> int:
    """Where the prompt is."""
    return int(prompt in held[1])


def turning() -> Callable[[list[set[str]], str], int]:
    """One after the other, which is where a prompt is not when it comes for the second time."""
    turns = count()
    return lambda _held, _prompt: next(turns) % 2


@pytest.mark.parametrize(("choose", "finds"), [(knowing, True), (turning(), False)])
def test_it_tells_who_knows_from_who_does_not(choose: Callable[[list[set[str]], str], int], *, finds: bool) -> None:
    """By whether a prompt is cached each time that it comes again."""
    assert finds_what_it_sent(client(choose), "http://x", model="demo", pause_s=0) is finds


def test_what_is_not_answered_is_not_known() -> None:
    """A router that fails has shown nothing."""
    assert not finds_what_it_sent(client(knowing, status=503), "http://x", model="demo", pause_s=0)

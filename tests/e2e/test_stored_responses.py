"""Conversations by `previous_response_id`: each goes on where its last response is stored."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from serve_app.control.running_application import RunningApplication
from serve_app.local.cluster import LocalRun
from serve_app.messages.response_headers import REASON_HEADER, REPLICA_HEADER
from tests.e2e.request_lines import reason_of

NUM_CONVERSATIONS = 10
NUM_TURNS = 3
TIMEOUT_S = 60


@pytest.fixture
def converse(client: httpx.Client, run_model: str) -> Callable[[int, int, dict[int, str]], httpx.Response]:
    """One turn of one conversation, which goes on from the last response and becomes it."""

    def ask(number: int, turn: int, last: dict[int, str]) -> httpx.Response:
        body = {
            "model": run_model,
            "input": f"Conversation {number}, question {turn}: " + "and so on " * 30,
            "max_output_tokens": 2,
            "previous_response_id": last.get(number),
        }
        response = client.post("/v1/responses", json=body)
        assert response.status_code == 200, response.text
        assert (response.headers[REASON_HEADER] == "stored") is (turn > 0)
        last[number] = response.json()["id"]
        return response

    return ask


@pytest.fixture
def round_robin(application: RunningApplication) -> Iterator[None]:
    """The policy that sends no two requests in a row to the same replica."""
    application.set_policy("round_robin")
    yield
    application.set_policy("prefix_affinity")


def decisions(application: RunningApplication) -> Counter[str]:
    """How many follow-ups each router sent where the response is."""
    return Counter({router.router: router.decisions.get("stored", 0) for router in application.routers()})


@pytest.mark.usefixtures("round_robin")
def test_no_follow_up_goes_to_another_replica(
    converse: Callable[[int, int, dict[int, str]], httpx.Response], application: RunningApplication
) -> None:
    """Ten conversations in turns, whichever router decides: both do, and both replicas are asked.

    Serve takes one router after the other out while the policy changes, so that for a second HAProxy knows only one.
    """
    before = decisions(application)
    last: dict[int, str] = {}
    replicas: dict[int, set[str]] = {}
    new = Counter[str]()
    deadline = time.monotonic() + TIMEOUT_S
    for turn in itertools.count():
        if turn >= NUM_TURNS and (len(new) == 2 or time.monotonic() > deadline):
            break
        for number in range(NUM_CONVERSATIONS):
            replica = converse(number, turn, last).headers[REPLICA_HEADER]
            replicas.setdefault(number, set()).add(replica)
        new = decisions(application) - before
        assert new.total() == NUM_CONVERSATIONS * turn
    assert all(len(each) == 1 for each in replicas.values())
    assert len(set.union(*replicas.values())) == 2
    assert len(new) == 2


def test_follow_ups_at_once_find_their_responses(
    converse: Callable[[int, int, dict[int, str]], httpx.Response],
) -> None:
    """With no pause after the response: its id is all that a router needs."""
    last: dict[int, str] = {}

    def talk(number: int) -> None:
        for turn in range(NUM_TURNS):
            converse(number, turn, last)

    with ThreadPoolExecutor(NUM_CONVERSATIONS) as pool:
        list(pool.map(talk, range(NUM_CONVERSATIONS)))


def test_a_stream_says_the_same_id(client: httpx.Client, run_model: str) -> None:
    """In its first event, before there is an answer."""
    body = {"model": run_model, "input": "Hello", "max_output_tokens": 2, "stream": True}
    with client.stream("POST", "/v1/responses", json=body) as response:
        events = [line for line in response.iter_lines() if line.startswith("data: ")]
    response_id = httpx.Response(200, content=events[0].removeprefix("data: ")).json()["response"]["id"]
    follow_up = {"model": run_model, "input": "Go on", "max_output_tokens": 2, "previous_response_id": response_id}
    answer = client.post("/v1/responses", json=follow_up)
    assert (answer.status_code, answer.headers[REASON_HEADER]) == (200, "stored")


def test_an_unknown_response_is_vllms_to_refuse(run: LocalRun, client: httpx.Client, run_model: str) -> None:
    """It goes where there is least to do, and gets vLLM's own words."""
    body = {"model": run_model, "input": "Hello", "previous_response_id": "resp_unknown"}
    response = client.post("/v1/responses", json=body)
    assert (response.status_code, reason_of(run, response)) == (404, "stored_state")
    assert "resp_unknown" in response.json()["error"]["message"]

"""The mix holds every kind, is the same for the same seed, and tells what is as expected."""

import json
from collections import Counter

import pytest

from loadtests.client.answers import Outcome
from loadtests.client.exchange import Close, Exchange
from loadtests.workloads.prompts import TOKEN_IDS
from tests.request_mix import KINDS, is_as_expected, kinds_for, request_mix

COUNT = 150


def mix(seed: int = 1, count: int = COUNT) -> list[object]:
    """Without the over-long prompts' bulk in a failing test's output."""
    return [*request_mix(count, model="demo", seed=seed, prefill_tokens=400)]


def test_the_same_seed_gives_the_same_bytes() -> None:
    """And another seed gives others."""
    assert mix() == mix()
    assert mix() != mix(seed=2)


@pytest.mark.parametrize("count", [len(KINDS), 100, 2000])
def test_every_kind_is_there_in_its_proportion(count: int) -> None:
    """At least once, and within one request of its weight's share, where there are enough for all."""
    counts = Counter(kinds_for(count))
    assert counts.total() == count
    assert counts.keys() == KINDS.keys()
    total_weight = sum(kind.weight for kind in KINDS.values())
    if count == 2000:
        for name, kind in KINDS.items():
            assert counts[name] == pytest.approx(count * kind.weight / total_weight, abs=2), name


def test_too_few_requests_are_refused() -> None:
    """With the number that is needed."""
    with pytest.raises(ValueError, match=f"too few for {len(KINDS)} kinds"):
        kinds_for(len(KINDS) - 1)


def test_every_request_has_an_id_of_its_own() -> None:
    """Though clients repeat theirs."""
    requests = request_mix(COUNT, model="demo", seed=1, prefill_tokens=400)
    assert len({request.request_id for request in requests}) == COUNT
    repeated = [request for request in requests if "repeated" in request.kind]
    assert len(repeated) > len({dict(request.headers)["x-request-id"] for request in repeated})


def test_requests_are_what_their_kind_says() -> None:
    """Those that matter most for the accounting, looked at one by one."""
    requests = request_mix(COUNT, model="demo", seed=1, prefill_tokens=400)
    kind_to_request = {request.kind: request for request in requests}
    for request in requests:
        match request.kind:
            case "empty body":
                assert request.content == b""
            case "bad JSON":
                with pytest.raises(json.JSONDecodeError):
                    json.loads(request.content)
            case _:
                assert json.loads(request.content)["model"] in {"demo", "no-such-model"}

    def body(kind: str) -> dict[str, object]:
        fields: dict[str, object] = json.loads(kind_to_request[kind].content)
        return fields

    assert body("chat, n=2")["n"] == 2
    assert body("chat, n=2")["temperature"] == 1, "vLLM refuses n=2 with temperature 0"
    texts, token_lists = body("list of 3 texts")["prompt"], body("list of 3 token id lists")["prompt"]
    assert isinstance(texts, list)
    assert [type(each) for each in texts] == [str, str, str]
    assert isinstance(token_lists, list)
    assert [len(each) >= 20 for each in token_lists] == [True, True, True]
    assert all(token in TOKEN_IDS for each in token_lists for token in each)
    assert kind_to_request["closed after the first chunk"].close is Close.AFTER_FIRST_CHUNK
    assert kind_to_request["closed before the first chunk"].close is Close.BEFORE_FIRST_CHUNK
    in_prefill = kind_to_request["closed during a long prefill"]
    assert in_prefill.patience_s is not None
    assert len(json.loads(in_prefill.content)["prompt"]) == 400
    assert kind_to_request["client timeout"].read_timeout_s is not None
    assert body("unknown model")["model"] == "no-such-model"
    assert body("completion, prompt_logprobs")["prompt_logprobs"] == 1


def test_prompts_share_beginnings_and_differ() -> None:
    """So that the cache is hit, and missed."""
    requests = request_mix(600, model="demo", seed=1, prefill_tokens=400)
    prompts = [json.loads(each.content)["messages"][0]["content"] for each in requests if each.kind == "chat"]
    assert len(set(prompts)) == len(prompts)
    beginnings = Counter(" ".join(prompt.split()[:8]) for prompt in prompts)
    num_shared = sum(count for count in beginnings.values() if count > 1)
    assert 0.4 < num_shared / len(prompts) < 0.9


@pytest.mark.parametrize(
    ("kind", "outcome", "status", "expected"),
    [
        ("chat", Outcome.COMPLETE, 200, True),
        ("chat", Outcome.REFUSED, 503, False),
        ("chat", Outcome.CUT, 200, False),
        ("chat", None, None, False),
        ("bad JSON", Outcome.REFUSED, 400, True),
        ("bad JSON", Outcome.REFUSED, 500, False),
        ("bad JSON", Outcome.COMPLETE, 200, False),
        ("client timeout", Outcome.TIMED_OUT, None, True),
        ("client timeout", Outcome.COMPLETE, 200, True),
        ("client timeout", Outcome.REFUSED, 503, False),
        ("closed during a long prefill", Outcome.CLOSED, 200, True),
        ("closed during a long prefill", Outcome.NO_ANSWER, None, False),
    ],
)
def test_each_kind_has_an_end_that_is_right(
    *, kind: str, outcome: Outcome | None, status: int | None, expected: bool
) -> None:
    """An answer, a refusal of the client's fault, or the client's own leaving."""
    assert is_as_expected(Exchange("1", kind, 0.0, outcome=outcome, status=status)) is expected

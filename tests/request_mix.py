"""A seeded mix of every kind of request that clients send, well and badly behaved. Pure: no request is sent here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Any

import orjson

from loadtests.client.answers import Outcome
from loadtests.client.exchange import CHAT, JSON_HEADERS, SERVER_ERROR, ClientRequest, Close, Exchange
from loadtests.workloads.prompts import Prompts

COMPLETIONS = "/v1/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
SHARED_PREFIX_WORDS = (8, 15, 25, 40, 60, 90, 130, 180, 250, 350, 500)
SHARED = 0.7
MAX_TOKENS = 4
LONG_ANSWER_TOKENS = 300
OVERLONG_WORDS = 40_000
NUM_REPEATED_IDS = 3

Body = dict[str, Any]


class ExpectedEnd(Enum):
    """How a kind of request must end."""

    ANSWER = auto()
    REFUSAL = auto()
    """A refusal with a status of 400 to 499."""
    LEFT = auto()
    """The client left; or, where it was too slow to leave, has its answer."""


@dataclass(frozen=True, slots=True)
class RequestKind:
    """One kind of request: how often, how it must end, and how it is made."""

    weight: int
    expected: ExpectedEnd
    make: "Callable[[Composer], RequestDraft]"


@dataclass(frozen=True, slots=True)
class RequestDraft:
    """A request without its id and kind."""

    path: str
    body: Body | bytes
    headers: tuple[tuple[str, str], ...] = JSON_HEADERS
    close: Close | None = None
    patience_s: float | None = None
    read_timeout_s: float | None = None


class Composer:
    """Draws what requests are made of."""

    def __init__(self, model: str, rng: Random, *, prefill_tokens: int) -> None:
        self.model = model
        self.rng = rng
        self.prefill_tokens = prefill_tokens
        self.prompts = Prompts(rng, shared_prefix_words=SHARED_PREFIX_WORDS, shared=SHARED)

    def text(self) -> str:
        """A prompt."""
        return self.prompts.prompt(min_words=3, max_words=60)

    def talk(self) -> list[dict[str, str]]:
        """A prompt as messages."""
        return [{"role": "user", "content": self.text()}]

    def body(self, **fields: object) -> Body:
        """A body for the served model."""
        return {"model": self.model, **fields}

    def answered(self, **fields: object) -> Body:
        """A body for a short answer of the same tokens every time."""
        return self.body(max_tokens=MAX_TOKENS, temperature=0, **fields)


def _chat(make: Composer) -> RequestDraft:
    return RequestDraft(CHAT, make.answered(messages=make.talk()))


def _chat_stream(make: Composer) -> RequestDraft:
    usage = {"include_usage": True}
    return RequestDraft(CHAT, make.answered(messages=make.talk(), stream=True, stream_options=usage))


def _chat_n2(make: Composer) -> RequestDraft:
    return RequestDraft(CHAT, make.body(messages=make.talk(), max_tokens=MAX_TOKENS, temperature=1, n=2))


def _completion(make: Composer) -> RequestDraft:
    return RequestDraft(COMPLETIONS, make.answered(prompt=make.text()))


def _completion_stream(make: Composer) -> RequestDraft:
    return RequestDraft(COMPLETIONS, make.answered(prompt=make.text(), stream=True))


def _text_list(make: Composer) -> RequestDraft:
    return RequestDraft(COMPLETIONS, make.answered(prompt=[make.text() for _ in range(3)]))


def _token_list(make: Composer) -> RequestDraft:
    common = make.prompts.token_ids(make.rng.randint(0, 100))
    prompts = [common + make.prompts.token_ids(make.rng.randint(20, 100)) for _ in range(3)]
    return RequestDraft(COMPLETIONS, make.answered(prompt=prompts))


def _prompt_logprobs(make: Composer) -> RequestDraft:
    return RequestDraft(COMPLETIONS, make.answered(prompt=make.text(), prompt_logprobs=1))


def _messages(make: Composer) -> RequestDraft:
    return RequestDraft(MESSAGES, make.answered(messages=make.talk(), system=make.text()))


def _messages_stream(make: Composer) -> RequestDraft:
    return RequestDraft(MESSAGES, make.answered(messages=make.talk(), stream=True))


def _response(make: Composer) -> RequestDraft:
    return RequestDraft(RESPONSES, make.body(input=make.text(), max_output_tokens=MAX_TOKENS, temperature=0))


def _response_stream(make: Composer) -> RequestDraft:
    return RequestDraft(
        RESPONSES, make.body(input=make.text(), max_output_tokens=MAX_TOKENS, temperature=0, stream=True)
    )


def _count_tokens(make: Composer) -> RequestDraft:
    return RequestDraft(f"{MESSAGES}/count_tokens", make.body(messages=make.talk()))


def _tokenize(make: Composer) -> RequestDraft:
    return RequestDraft("/tokenize", make.body(prompt=make.text()))


def _repeated_id(make: Composer) -> RequestDraft:
    repeated = ("x-request-id", f"repeated-{make.rng.randrange(NUM_REPEATED_IDS)}")
    return RequestDraft(CHAT, make.answered(messages=make.talk()), headers=(*JSON_HEADERS, repeated))


def _long_stream(make: Composer) -> Body:
    return make.body(messages=make.talk(), max_tokens=LONG_ANSWER_TOKENS, ignore_eos=True, stream=True)


def _closed_after_first_chunk(make: Composer) -> RequestDraft:
    return RequestDraft(CHAT, _long_stream(make), close=Close.AFTER_FIRST_CHUNK)


def _closed_before_first_chunk(make: Composer) -> RequestDraft:
    return RequestDraft(CHAT, _long_stream(make), close=Close.BEFORE_FIRST_CHUNK)


def _closed_in_prefill(make: Composer) -> RequestDraft:
    long_prompt = make.prompts.token_ids(make.prefill_tokens)
    return RequestDraft(
        COMPLETIONS,
        make.answered(prompt=long_prompt, stream=make.rng.random() < 0.5),
        patience_s=make.rng.uniform(0.05, 0.5),
    )


def _timed_out(make: Composer) -> RequestDraft:
    prompt = make.prompts.token_ids(make.prefill_tokens // 4)
    body = make.body(prompt=prompt, max_tokens=LONG_ANSWER_TOKENS, ignore_eos=True)
    return RequestDraft(COMPLETIONS, body, read_timeout_s=make.rng.uniform(0.2, 1.0))


def _bad_json(make: Composer) -> RequestDraft:
    whole = orjson.dumps(make.answered(messages=make.talk()))
    return RequestDraft(CHAT, whole[: make.rng.randint(1, len(whole) - 1)])


def _wrong_type(make: Composer) -> RequestDraft:
    path, body = make.rng.choice(
        [
            (CHAT, make.body(messages=make.talk(), temperature="hot")),
            (COMPLETIONS, make.body(prompt={"text": make.text()})),
            (MESSAGES, make.body(messages=make.text(), max_tokens=MAX_TOKENS)),
            (RESPONSES, make.body(input=7)),
        ]
    )
    return RequestDraft(path, body)


def _unknown_model(make: Composer) -> RequestDraft:
    return RequestDraft(CHAT, make.answered(messages=make.talk()) | {"model": "no-such-model"})


def _overlong(make: Composer) -> RequestDraft:
    return RequestDraft(COMPLETIONS, make.answered(prompt=make.prompts.text(OVERLONG_WORDS)))


def _empty(make: Composer) -> RequestDraft:
    return RequestDraft(make.rng.choice((CHAT, COMPLETIONS, MESSAGES, RESPONSES)), b"")


KINDS: Mapping[str, RequestKind] = {
    "chat": RequestKind(12, ExpectedEnd.ANSWER, _chat),
    "chat, streaming": RequestKind(14, ExpectedEnd.ANSWER, _chat_stream),
    "chat, n=2": RequestKind(4, ExpectedEnd.ANSWER, _chat_n2),
    "chat, repeated x-request-id": RequestKind(5, ExpectedEnd.ANSWER, _repeated_id),
    "completion": RequestKind(8, ExpectedEnd.ANSWER, _completion),
    "completion, streaming": RequestKind(6, ExpectedEnd.ANSWER, _completion_stream),
    "completion, prompt_logprobs": RequestKind(1, ExpectedEnd.ANSWER, _prompt_logprobs),
    "list of 3 texts": RequestKind(3, ExpectedEnd.ANSWER, _text_list),
    "list of 3 token id lists": RequestKind(3, ExpectedEnd.ANSWER, _token_list),
    "message": RequestKind(5, ExpectedEnd.ANSWER, _messages),
    "message, streaming": RequestKind(6, ExpectedEnd.ANSWER, _messages_stream),
    "response": RequestKind(4, ExpectedEnd.ANSWER, _response),
    "response, streaming": RequestKind(3, ExpectedEnd.ANSWER, _response_stream),
    "count_tokens": RequestKind(3, ExpectedEnd.ANSWER, _count_tokens),
    "tokenize": RequestKind(3, ExpectedEnd.ANSWER, _tokenize),
    "closed after the first chunk": RequestKind(4, ExpectedEnd.LEFT, _closed_after_first_chunk),
    "closed before the first chunk": RequestKind(4, ExpectedEnd.LEFT, _closed_before_first_chunk),
    "closed during a long prefill": RequestKind(2, ExpectedEnd.LEFT, _closed_in_prefill),
    "client timeout": RequestKind(2, ExpectedEnd.LEFT, _timed_out),
    "bad JSON": RequestKind(2, ExpectedEnd.REFUSAL, _bad_json),
    "wrong type": RequestKind(2, ExpectedEnd.REFUSAL, _wrong_type),
    "unknown model": RequestKind(1, ExpectedEnd.REFUSAL, _unknown_model),
    "over-long prompt": RequestKind(1, ExpectedEnd.REFUSAL, _overlong),
    "empty body": RequestKind(2, ExpectedEnd.REFUSAL, _empty),
}


def request_mix(count: int, *, model: str, seed: int, prefill_tokens: int) -> list[ClientRequest]:
    """That many requests in the proportions of `KINDS`, each kind at least once, in random order.

    Args:
        count: how many; at least one for each kind.
        model: the served model's name.
        seed: the same seed gives the same bytes.
        prefill_tokens: the length of a long prefill; within the model's length and a replica's KV cache.

    """
    rng = Random(f"request mix {seed}")
    composer = Composer(model, rng, prefill_tokens=prefill_tokens)
    kinds = kinds_for(count)
    rng.shuffle(kinds)
    return [_request(f"{seed}-{number:05d}", kind, composer) for number, kind in enumerate(kinds)]


def kinds_for(count: int) -> list[str]:
    """The kinds of that many requests, in order: one of each, the rest by weight.

    Raises:
        ValueError: the count is too small for one of each.

    """
    if count < len(KINDS):
        raise ValueError(f"{count} requests are too few for {len(KINDS)} kinds: ask for more")
    total_weight = sum(kind.weight for kind in KINDS.values())
    kinds = list(KINDS)
    sent_weight = dict.fromkeys(KINDS, 1)
    while len(kinds) < count:
        # Who lags furthest behind its share is next.
        name = min(KINDS, key=lambda name: (sent_weight[name] * total_weight / KINDS[name].weight, name))
        sent_weight[name] += 1
        kinds.append(name)
    return kinds


def is_as_expected(exchange: Exchange) -> bool:
    """Whether a request of the mix ended as its kind must."""
    match KINDS[exchange.kind].expected:
        case ExpectedEnd.ANSWER:
            return exchange.is_complete
        case ExpectedEnd.REFUSAL:
            return exchange.outcome is Outcome.REFUSED and (exchange.status or SERVER_ERROR) < SERVER_ERROR
        case ExpectedEnd.LEFT:
            return exchange.outcome in {Outcome.CLOSED, Outcome.TIMED_OUT, Outcome.COMPLETE}


def _request(request_id: str, kind: str, composer: Composer) -> ClientRequest:
    draft = KINDS[kind].make(composer)
    return ClientRequest(
        request_id=request_id,
        kind=kind,
        path=draft.path,
        content=draft.body if isinstance(draft.body, bytes) else orjson.dumps(draft.body),
        headers=draft.headers,
        close=draft.close,
        patience_s=draft.patience_s,
        read_timeout_s=draft.read_timeout_s,
    )

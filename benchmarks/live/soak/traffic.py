"""Multi-turn conversations as one steady stream of requests, some of them badly behaved. Pure."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import orjson

from loadtests.client.answers import Outcome
from loadtests.client.exchange import CHAT, SERVER_ERROR, ClientRequest, Close, Exchange
from loadtests.workloads.prompts import Prompts

SYSTEM_WORDS = (60, 120, 200)
"""The lengths of the system prompts, each of which many conversations share."""
MIN_TURNS, MAX_TURNS = 2, 8
QUESTION_WORDS, ANSWER_WORDS = (8, 40), (10, 40)
ANSWER_TOKENS = 12
LONG_ANSWER_TOKENS = 200
CONTINUED = 0.85
"""The share of requests that go on with a conversation, where there is one to go on with."""
MAX_CONVERSATIONS = 400

STREAMING, WHOLE, ABORTED, REFUSED = "streaming", "whole", "aborted", "refused"
KIND_TO_WEIGHT = {STREAMING: 50, WHOLE: 40, ABORTED: 6, REFUSED: 4}


@dataclass(slots=True)
class Conversation:
    """The conversation of one user."""

    messages: list[dict[str, str]]
    turns_left: int


class SoakTraffic:
    """Draws requests; a conversation's next turn can be drawn once its last one has ended.

    The history has answers of our own words instead of the model's, so that a seed means the same requests whatever
    is answered. Which conversation goes on when still depends on how fast answers come.
    """

    def __init__(self, model: str, *, seed: int) -> None:
        self._model = model
        self._rng = Random(f"soak {seed}")
        self._prompts = Prompts(self._rng, shared_prefix_words=(), shared=0)
        self._systems = [self._prompts.text(words) for words in SYSTEM_WORDS]
        self._ready: deque[Conversation] = deque()
        self._asked: dict[str, Conversation] = {}
        self._num_requests = 0

    @property
    def num_conversations(self) -> int:
        """Those that go on."""
        return len(self._ready) + len(self._asked)

    def requests(self) -> Iterator[ClientRequest]:
        """An endless series of requests."""
        while True:
            yield self._next()

    def on_end(self, exchange: Exchange) -> None:
        """A request has ended, in whatever way: its conversation may go on."""
        conversation = self._asked.pop(exchange.request_id)
        conversation.turns_left -= 1
        if conversation.turns_left > 0:
            conversation.messages.append({"role": "assistant", "content": self._words(ANSWER_WORDS)})
            conversation.messages.append({"role": "user", "content": self._words(QUESTION_WORDS)})
            self._ready.append(conversation)

    def _next(self) -> ClientRequest:
        kind = self._rng.choices([*KIND_TO_WEIGHT], weights=[*KIND_TO_WEIGHT.values()])[0]
        conversation = self._conversation()
        request_id = f"soak-{self._num_requests:07d}"
        self._num_requests += 1
        self._asked[request_id] = conversation
        body = {
            "model": self._model,
            "messages": conversation.messages,
            "max_tokens": LONG_ANSWER_TOKENS if kind == ABORTED else ANSWER_TOKENS,
            "ignore_eos": True,
            "stream": kind in {STREAMING, ABORTED},
        }
        if kind == REFUSED:
            body["temperature"] = "hot"
        request = ClientRequest(request_id, kind, CHAT, orjson.dumps(body))
        return replace(request, close=Close.AFTER_FIRST_CHUNK) if kind == ABORTED else request

    def _conversation(self) -> Conversation:
        is_full = self.num_conversations >= MAX_CONVERSATIONS
        if self._ready and (is_full or self._rng.random() < CONTINUED):
            return self._ready.popleft()
        messages = [
            {"role": "system", "content": self._rng.choice(self._systems)},
            {"role": "user", "content": self._words(QUESTION_WORDS)},
        ]
        return Conversation(messages, self._rng.randint(MIN_TURNS, MAX_TURNS))

    def _words(self, least_and_most: tuple[int, int]) -> str:
        return self._prompts.text(self._rng.randint(*least_and_most))


def is_as_expected(exchange: Exchange) -> bool:
    """Whether a request ended as its kind must."""
    match exchange.kind:
        case "aborted":
            return exchange.outcome in {Outcome.CLOSED, Outcome.COMPLETE}
        case "refused":
            return exchange.outcome is Outcome.REFUSED and (exchange.status or SERVER_ERROR) < SERVER_ERROR
    return exchange.is_complete

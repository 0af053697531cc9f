"""The requests that a replica serves, and its totals. Every change is reported to the routers."""

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from router import RequestId, TokenHash
from serve_app.autoscaling.stats import WorkStats
from serve_app.messages.receipts import (
    Arrived,
    EngineState,
    Finished,
    Prefilled,
    Receipt,
    Report,
    SelfTestReport,
    Status,
)

current_request_id: ContextVar[RequestId | None] = ContextVar("warmroute_request_id", default=None)
"""The routed request that this task serves. Set by the replica's middleware, read where the engine is asked."""

CROWDED_KV_USE = 0.5
"""Share of the KV cache in use from which on cached blocks may be evicted within moments."""


@dataclass(slots=True)
class _Request:
    """A routed request that is not over."""

    tenant: str
    since_s: float
    num_sequences: int
    """The number of its sequences, as its router knows it."""
    uncached_tokens: int
    """Tokens of its prompts that are still to be computed, as far as its router knew."""
    prefilled_tokens: int = 0
    """Prompt tokens of its sequences that had a first output."""
    num_prefilled: int = 0
    """The number of its sequences that had a first output."""
    answers: dict[str, Callable[[], int]] = field(default_factory=dict)
    """Functions that count the tokens of each sequence's answer so far, by the engine's id of the sequence."""

    @property
    def num_waiting(self) -> int:
        """Its sequences without a first output. Once there is one, the engine has all that it was asked for, whatever
        the router has read.
        """
        if not self.num_prefilled:
            return max(self.num_sequences, len(self.answers))
        return max(0, len(self.answers) - self.num_prefilled)

    @property
    def answer_tokens(self) -> int | None:
        """Tokens of all its answers together; None if the engine never had the request."""
        return sum(count() for count in self.answers.values()) if self.answers else None


class RunningRequests:
    """Used on the replica's event loop only.

    Args:
        report: takes a receipt; must not wait.
        clock: seconds, monotonic.

    """

    def __init__(self, report: Report, *, clock: Callable[[], float]) -> None:
        self._send = report
        self._clock = clock
        self._untold: dict[RequestId, _Request] = {}
        self._outstanding: dict[RequestId, _Request] = {}
        self._waiting: dict[RequestId, _Request] = {}
        self._engine: EngineState | None = None
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._external_cached_tokens = 0
        self._looked_up_tokens = 0
        self._hit_tokens = 0
        self._left_tokens = 0
        self._answer_tokens = 0
        self._own_tokens = 0
        self._computed_tokens = 0
        self._refused_tokens = 0
        self._uncounted_tokens: Counter[str] = Counter()
        self.is_serving = True
        self.last_wait_s = 0.0
        """How long the last sequence that got its first token had waited for it."""
        self.self_test: SelfTestReport | None = None
        """The report of the last run."""
        self.tokenizer = ""
        """The tokenizer in use; empty before that is known."""

    @property
    def num_outstanding(self) -> int:
        """The number of routed requests here."""
        return len(self._outstanding)

    @property
    def num_waiting(self) -> int:
        """The number of sequences without a first token."""
        return sum(request.num_waiting for request in self._waiting.values())

    @property
    def num_waiting_requests(self) -> int:
        """The number of requests that have such sequences."""
        return len(self._waiting)

    @property
    def waiting_tokens(self) -> int:
        """Tokens that the engine will have to compute for the waiting prompts, as far as the routers knew."""
        return sum(request.uncached_tokens for request in self._waiting.values())

    @property
    def work(self) -> WorkStats:
        """The work of this replica, for autoscaling."""
        return WorkStats(
            arrived_tokens=self._computed_tokens + self._refused_tokens + self.waiting_tokens,
            waiting_tokens=self.waiting_tokens,
            kv_use=None if self._engine is None else self._engine.kv_use,
        )

    @property
    def is_crowded(self) -> bool:
        """Whether the engine may soon evict what it has just cached: requests wait, or half of its memory is used."""
        if not self._outstanding:
            return False
        return self._engine is None or self._engine.waiting > 0 or self._engine.kv_use > CROWDED_KV_USE

    def has_prefilled(self, request_id: RequestId) -> bool:
        """Whether the engine has given its first output for a prompt of this request, which is not over."""
        request = self._outstanding.get(request_id)
        return request is not None and request.prefilled_tokens > 0

    def arrived(
        self,
        request_id: RequestId,
        *,
        num_sequences: int = 1,
        uncached_tokens: int = 0,
        tenant: str = "",
        is_expected: bool = True,
    ) -> None:
        """A tenant's routed request is here, with its number of sequences and its uncached prompt tokens, as far as its
        router knew them.

        Where the routers expect it, they are told with the next receipt, be it a heartbeat: a delivery of its own would
        take the time in which the request is read.
        """
        request = _Request(tenant, self._clock(), num_sequences, uncached_tokens)
        self._outstanding[request_id] = self._waiting[request_id] = request
        self._untold[request_id] = request
        if not is_expected:
            self._tell_arrived()

    def answering(self, request_id: RequestId | None, engine_id: str, num_tokens: Callable[[], int]) -> None:
        """The engine has a sequence of the request, and will tell the tokens of its answer when asked."""
        request = None if request_id is None else self._outstanding.get(request_id)
        if request_id is not None and request is not None:
            request.answers[engine_id] = num_tokens
            self._waiting[request_id] = request

    def prefilled(
        self,
        request_id: RequestId | None,
        *,
        prompt_tokens: int,
        cached_tokens: int,
        external_cached_tokens: int = 0,
        uncounted: str | None = None,
        token_hash: TokenHash | None = None,
        is_own: bool = False,
    ) -> None:
        """The engine's first output for a sequence; None for a request that no router sent.

        Of the cached tokens, the external ones came from a second tier.

        `uncounted` is the cause why the engine does not count the prompt among those it looked up in its cache;
        `token_hash` is for the router to compare; `is_own` says that the replica
        itself sent it, for its self-test or to warm its cache.
        """
        if is_own:
            self._own_tokens += prompt_tokens
        else:
            self._computed_tokens += prompt_tokens - cached_tokens
        if uncounted is None:
            self._prompt_tokens += prompt_tokens
            self._cached_tokens += cached_tokens
            self._external_cached_tokens += external_cached_tokens
        else:
            self.uncounted(uncounted, prompt_tokens=prompt_tokens)
        if request_id is None:
            return
        ttft_s = None
        is_looked_up = uncounted is None
        request = self._outstanding.get(request_id)
        if request is not None:
            ttft_s = self._end_wait(request_id, request)
            request.prefilled_tokens += prompt_tokens
            request.uncached_tokens = max(0, request.uncached_tokens - (prompt_tokens - cached_tokens))
        elif is_looked_up:
            self._left_tokens += prompt_tokens
        tenant = "" if request is None else request.tenant
        self._report(
            Prefilled(
                request_id,
                prompt_tokens,
                cached_tokens,
                token_hash,
                ttft_s,
                is_looked_up,
                tenant,
                external_cached_tokens,
            )
        )

    def uncounted(self, cause: str, *, prompt_tokens: int) -> None:
        """A prompt of which the engine gave no cached tokens."""
        self._uncounted_tokens[cause] += prompt_tokens

    def refused(self, request_id: RequestId | None) -> None:
        """The request is turned away, as there is too much to do; it was work all the same."""
        if request_id in self._waiting:
            self._refused_tokens += self._waiting.pop(request_id).uncached_tokens

    def finished(self, request_id: RequestId) -> None:
        """The response to a routed request is over, in whatever way."""
        if request_id in self._outstanding:
            answer_tokens = self._outstanding[request_id].answer_tokens
            self._answer_tokens += answer_tokens or 0
            self._drop(request_id)
            self._report(Finished(request_id, answer_tokens))

    def passed_on(self, request_id: RequestId | None) -> None:
        """The request goes to another replica, which will report it; nothing is over."""
        if request_id is not None and request_id in self._outstanding:
            self._drop(request_id)

    def engine_stepped(self, engine: EngineState, *, looked_up_tokens: int = 0, hit_tokens: int = 0) -> None:
        """The engine's numbers after a step, and the prompt tokens that it looked up in its cache for this step."""
        self._engine = engine
        self._looked_up_tokens += looked_up_tokens
        self._hit_tokens += hit_tokens

    def engine_died(self) -> None:
        """Nothing will be served here any more; the routers must know at once."""
        self.is_serving = False
        self.report_status()

    def report_status(self) -> None:
        """Send the heartbeat."""
        self._report(
            Status(
                outstanding={name: request.prefilled_tokens for name, request in self._outstanding.items()},
                is_serving=self.is_serving,
                prompt_tokens=self._prompt_tokens,
                cached_tokens=self._cached_tokens,
                external_cached_tokens=self._external_cached_tokens,
                uncounted_tokens=dict(self._uncounted_tokens),
                looked_up_tokens=self._looked_up_tokens,
                hit_tokens=self._hit_tokens,
                engine=self._engine,
                own_tokens=self._own_tokens,
                left_tokens=self._left_tokens,
                self_test=self.self_test,
                answer_tokens=self._answer_tokens,
                tokenizer=self.tokenizer,
            )
        )

    def _end_wait(self, request_id: RequestId, request: _Request) -> float | None:
        """End the wait of one of its sequences; returns how long that was, for the first."""
        wait_s = self._clock() - request.since_s
        if request.num_prefilled < request.num_sequences:  # beams are computed again with every token
            self.last_wait_s = wait_s
        request.num_prefilled += 1
        if not request.num_waiting:
            self._waiting.pop(request_id, None)
        return wait_s if request.num_prefilled == 1 else None

    def _drop(self, request_id: RequestId) -> None:
        del self._outstanding[request_id]
        self._waiting.pop(request_id, None)
        self._untold.pop(request_id, None)

    def _report(self, receipt: Receipt) -> None:
        self._tell_arrived()
        self._send(receipt)

    def _tell_arrived(self) -> None:
        untold, self._untold = self._untold, {}
        for request_id, request in untold.items():
            self._send(Arrived(request_id, self._clock() - request.since_s))

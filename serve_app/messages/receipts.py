"""What replicas tell the routers: how each request goes, and how they are themselves."""

import sys
from collections.abc import Callable
from enum import Enum
from typing import Annotated

import msgspec

from router import RequestId, TokenHash
from serve_app.messages.kv_updates import KnownHash

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]
"""Infinity and NaN are refused: they would spoil every sum to which they are added."""


class Arrived(msgspec.Struct, tag="arrived", frozen=True):
    """The request reached this replica."""

    request_id: RequestId
    waited_s: Seconds = 0.0
    """Seconds since it arrived, when this was written: it can wait for the next receipt."""


class Prefilled(msgspec.Struct, tag="prefilled", frozen=True):
    """The engine's first output for a sequence. A request with several prompts or choices sends one for each."""

    request_id: RequestId
    prompt_tokens: int
    cached_tokens: int
    token_hash: TokenHash | None = None
    """Hash of the token ids of a sampled request (`serve_app.parity.samples`); None for other requests."""
    ttft_s: Seconds | None = None
    """Seconds since the request reached the replica; None for a further sequence of the same request."""
    is_looked_up: bool = True
    """Whether the engine looked for it in its cache. Some requests want it not to."""
    tenant: str = ""
    """Tenant that it belongs to (`serve_app.settings.tenant_names`); empty for none."""
    external_cached_tokens: int = 0
    """Cached tokens that came from a second tier, such as the host's memory."""


class Warmed(msgspec.Struct, tag="warmed", frozen=True):
    """The replica has computed a prefix by itself (`serve_app.replica.warmth.join`)."""

    block_hashes: tuple[KnownHash, ...]


class Finished(msgspec.Struct, tag="finished", frozen=True):
    """The replica is done with a request, whatever became of it."""

    request_id: RequestId
    answer_tokens: int | None = None
    """Tokens that the engine generated for it, all choices together, also those that no client read; None if the engine
    never had the request."""


class EngineState(msgspec.Struct, frozen=True):
    """The engine's own numbers after its last step."""

    waiting: int
    """Waiting sequences, each of which is a request to vLLM."""
    running: int
    kv_use: Share
    """Share of the KV cache's blocks in use by running sequences, 0 to 1."""
    preempted: int = 0
    """Number of times that a running sequence had to give its memory back, since the start. vLLM tells it with the
    request's next token, so it comes late, and never for a request that is aborted before."""


class ProbeResult(msgspec.Struct, frozen=True, array_like=True):
    """What the engine made of one of the self-test's prompts."""

    prompt_tokens: int
    token_hash: TokenHash
    cached_tokens: int


class SelfTestReport(msgspec.Struct, frozen=True):
    """The self-test's last run, and what its probes follow from (`serve_app.parity.self_test`)."""

    nonce: str
    model: str
    adapter: str
    """Name of an adapter that the model has; empty without any."""
    block_size: int
    period_s: float
    """Seconds until the next run."""
    probes_hash: int
    """Hash of the probes themselves: another version may have others, and then a router can say nothing."""
    results: tuple[ProbeResult | None, ...]
    """Results in the order of the probes; None where the API refused one."""
    was_crowded: bool = False
    """Whether what was cached may have been evicted within the run."""


class Status(msgspec.Struct, tag="status", frozen=True):
    """The heartbeat: all that a router needs to repair its own view of this replica."""

    outstanding: dict[RequestId, int]
    """Running routed requests, each with the prompt tokens of its sequences that had a first output."""
    is_serving: bool
    """False once the engine has died, or hangs."""
    prompt_tokens: int
    """Prompt tokens of every sequence that had a first output, since the replica started."""
    cached_tokens: int
    """Prompt tokens of these that came from the prefix cache, or from a second tier."""
    uncounted_tokens: dict[str, int]
    """Prompt tokens that are in neither number, by cause."""
    looked_up_tokens: int
    """Tokens that the engine says it looked up in its prefix cache: `prompt_tokens`, and prompts aborted after that."""
    hit_tokens: int
    """Tokens of these that it found there."""
    engine: EngineState | None
    """The engine's numbers; None before the first step, and without vLLM's statistics (`log_engine_metrics: false`)."""
    own_tokens: int = 0
    """Tokens of `prompt_tokens` whose prompts the replica made itself: for its self-test, and to be warm."""
    left_tokens: int = 0
    """Tokens of `prompt_tokens` whose requests were over before their first output, as their clients had left."""
    self_test: SelfTestReport | None = msgspec.field(default=None, name="canary")
    """The report of the last self-test; None before its first run. The name on the wire is that of earlier versions."""
    answer_tokens: int = 0
    """Answer tokens of all routed requests that are over, since the replica started."""
    external_cached_tokens: int = 0
    """Tokens of `cached_tokens` that came from a second tier."""
    tokenizer: str = ""
    """The tokenizer in use, and why it is not fastokens (`serve_app.prompt.vllm_tokenizing`); empty until known."""


class BatchAnswer(Enum):
    """A router's answer to a replica's batch. The values are JSON, which the version before reads as well."""

    KNOWN = True
    """The replica is one of the router's."""
    UNKNOWN = False
    """The replica is none of the router's."""
    WANTS_SNAPSHOT = "snapshot"
    """The replica is known, and shall tell the router all of its KV cache."""
    UNDECIDED = None
    """The router could not read the batch, or knows no replica yet."""

    @classmethod
    def _missing_(cls, _value: object) -> "BatchAnswer":
        """A later version may answer more, but only to a replica that it knows."""
        return cls.KNOWN

    @property
    def knows_replica(self) -> bool:
        """Whether the replica is one of the router's."""
        return self in {BatchAnswer.KNOWN, BatchAnswer.WANTS_SNAPSHOT}


Receipt = Arrived | Prefilled | Warmed | Finished | Status
Report = Callable[[Receipt], None]

"""What replicas tell the routers about the requests they were sent: the engine's own numbers."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from router import RequestId


@dataclass(frozen=True, slots=True)
class Arrived:
    """The request reached the replica."""

    request_id: RequestId


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The engine produced a first token. A request with several prompts sends one for each."""

    request_id: RequestId
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The replica is done with a request, whatever became of it."""

    request_id: RequestId


Receipt = Arrived | Prefilled | Finished
Report = Callable[[Receipt], None]

current_request_id: ContextVar[RequestId | None] = ContextVar("warmroute_request_id", default=None)
"""The routed request that this task serves. Set by the replica's middleware, read where the engine is called."""


class _Output(Protocol):
    prompt_token_ids: list[int] | None
    num_cached_tokens: int | None


Generate = Callable[..., AsyncGenerator[_Output, None]]


def report_prefills(generate: Generate, report: Report) -> Generate:
    """The engine's `generate`, reporting the first output of every routed request. Outputs pass unchanged."""

    def reporting(*args: object, **kwargs: object) -> AsyncGenerator[_Output, None]:
        stream = generate(*args, **kwargs)
        request_id = current_request_id.get()
        return stream if request_id is None else _report_first(stream, request_id, report)

    return reporting


async def _report_first(
    stream: AsyncGenerator[_Output, None], request_id: RequestId, report: Report
) -> AsyncGenerator[_Output, None]:
    # Closing the outer generator must close the engine's at once: that is how a disconnect aborts a request.
    async with contextlib.aclosing(stream):
        reported = False
        async for output in stream:
            if not reported:
                reported = True
                report(Prefilled(request_id, len(output.prompt_token_ids or ()), output.num_cached_tokens or 0))
            yield output

"""What the replica says that it got: its own token ids, over HTTP, for the very body that the router read.

Every request runs through the engine, for one token. Chat completions and completions report `prompt_token_ids`;
responses report `input_messages`. Anthropic messages report only how many there were, so the ids come of vLLM's
`/v1/messages/render`, which takes the same body, and the count must be that of the message itself. Where a message has
a `cache_salt` of its own, the engine's cache speaks too: asked for the rendered ids with that salt, it must reuse every
full block of them.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import httpx

from benchmarks.harness.errors import MeasurementError
from benchmarks.keys.bodies import Body, Endpoint, Question
from loadtests.client.exchange import TIMEOUT_S

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReplicaPrompt:
    """The prompt that the replica got for one question."""

    ids: Ids | None
    """Its token ids; None where the replica refused the body."""
    status: int = 200
    is_proven: bool = True
    """False where a message's count or the engine's cache contradict the rendered ids."""


class Replica:
    """Asks one engine.

    Args:
        client: connected to its own port.
        block_size: of its cache.

    """

    def __init__(self, client: httpx.AsyncClient, *, block_size: int) -> None:
        self._client = client
        self._block_size = block_size

    async def report_all(
        self, questions: Sequence[Question], *, concurrency: int, on_report: Callable[[], None]
    ) -> list[ReplicaPrompt]:
        """The prompts in the order of the questions. A dialogue's own are asked in turn: most share a prompt."""
        limit = asyncio.Semaphore(concurrency)

        async def report(of_one: Iterator[Question]) -> list[ReplicaPrompt]:
            reports = []
            async with limit:
                for question in of_one:
                    reports.append(await self.report(question))
                    on_report()
            return reports

        dialogues = groupby(questions, key=lambda question: (question.source, question.number))
        nested = await asyncio.gather(*(report(iter(list(of_one))) for _, of_one in dialogues))
        return [each for reports in nested for each in reports]

    async def report(self, question: Question) -> ReplicaPrompt:
        """The token ids that this body is for the replica.

        Raises:
            MeasurementError: the replica failed, or does not report them.

        """
        if question.endpoint is Endpoint.MESSAGES:
            return await self._report_message(question)
        wish = {"enable_response_messages": True}
        if question.endpoint is not Endpoint.RESPONSES:
            wish = {"return_token_ids": True}
        status, answer = await self._post(question.endpoint, question.body | wish)
        if status != httpx.codes.OK:
            return ReplicaPrompt(None, status)
        return ReplicaPrompt(tuple(_reported_ids(question.endpoint, answer)))

    async def _report_message(self, question: Question) -> ReplicaPrompt:
        status, answer = await self._post(question.endpoint, question.body)
        rendered_status, rendered = await self._post(f"{question.endpoint}/render", question.body)
        if status != rendered_status:
            raise MeasurementError(f"{question.endpoint} answered {status}, and its rendering {rendered_status}")
        if status != httpx.codes.OK:
            return ReplicaPrompt(None, status)
        ids = tuple(rendered["token_ids"])
        is_proven = _message_tokens(answer["usage"]) == len(ids)
        if "cache_salt" in question.body:
            is_proven &= await self._cached_tokens(ids, question.body) == self._cacheable_tokens(ids)
        return ReplicaPrompt(ids, is_proven=is_proven)

    async def _cached_tokens(self, ids: Ids, body: Body) -> int:
        """How many tokens of such a prompt the engine reuses."""
        same = {"model": body["model"], "cache_salt": body["cache_salt"]}
        _, answer = await self._post(Endpoint.COMPLETIONS, {**same, "prompt": ids, "max_tokens": 1})
        details = answer["usage"]["prompt_tokens_details"]
        if details is None:
            raise MeasurementError("the engine does not say what it reused: it needs --enable-prompt-tokens-details")
        return int(details["cached_tokens"])

    def _cacheable_tokens(self, ids: Ids) -> int:
        """Every full block, but the last token is always computed."""
        return (len(ids) - 1) // self._block_size * self._block_size

    async def _post(self, path: str, body: Body) -> tuple[int, dict[str, Any]]:
        try:
            response = await self._client.post(path, json=body, timeout=TIMEOUT_S)
        except httpx.TransportError as error:
            raise MeasurementError(f"the replica does not answer any more: {type(error).__name__}") from error
        if response.is_server_error:
            raise MeasurementError(f"{path} answered {response.status_code}")
        return response.status_code, response.json()


def _reported_ids(endpoint: Endpoint, answer: dict[str, Any]) -> Sequence[int]:
    if endpoint is Endpoint.CHAT:
        ids = answer["prompt_token_ids"]
    elif endpoint is Endpoint.COMPLETIONS:
        ids = answer["choices"][0]["prompt_token_ids"]
    else:
        ids = answer["input_messages"][0]["tokens"]
    if ids is None:
        raise MeasurementError(f"{endpoint} does not report the prompt's token ids")
    return list(ids)


def _message_tokens(usage: dict[str, Any]) -> int:
    """A message's usage lists what was cached apart from what was not."""
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage.get(part) or 0 for part in parts)

"""Whose a prompt and a stored response are, wherever vLLM takes them: its APIs each go another way.

vLLM's APIs read `cache_salt` in their own ways, and some not at all. All prompts pass one place on their way to the
engine, and there the tenant's salt is put around what the client chose. A prompt that is no one's there is refused: it
would share its cache with everyone. Likewise, all stored responses pass one dictionary.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from fastapi import FastAPI

from serve_app.prompt import vllm_hooks
from serve_app.tenants.isolation import nested_salt


class Owner(NamedTuple):
    """Whom a task works for."""

    tenant: str
    salt: str
    """The salt of its prompts; empty where all tenants share one cache."""


REPLICA = Owner("", "")
"""The replica itself, whose own prompts have their whole salt already. No tenant has an empty name."""

_owner: ContextVar[Owner | None] = ContextVar("warmroute_owner", default=None)


class UnknownOwnerError(Exception):
    """A prompt or a response is no tenant's, and not the replica's own: a fault of ours."""


@contextmanager
def working_for(owner: Owner) -> Iterator[None]:
    """What this task sends within is this owner's."""
    token = _owner.set(owner)
    try:
        yield
    finally:
        _owner.reset(token)


def keep_tenants_apart(app: FastAPI, engine_client: Any) -> None:  # noqa: ANN401  vLLM's AsyncLLM
    """Let no prompt reach the engine without its owner's salt, and no response anyone but its owner, from now on."""
    vllm_hooks.wrap_request_sending(engine_client, _salting)
    vllm_hooks.replace_response_store(app, OwnResponses())


class OwnResponses(dict[str, Any]):
    """vLLM's store of responses, in which each owner finds its own."""

    def __setitem__(self, response_id: str, response: Any) -> None:  # noqa: ANN401  vLLM's ResponsesResponse
        """Store a response for the present owner."""
        super().__setitem__(_of_owner(response_id), response)

    def get(self, response_id: str, default: Any = None) -> Any:  # noqa: ANN401
        """The present owner's response of this id."""
        return super().get(_of_owner(response_id), default)


def _of_owner(response_id: str) -> str:
    return f"{_present_owner().tenant} {response_id}"


def _present_owner() -> Owner:
    owner = _owner.get()
    if owner is None:
        raise UnknownOwnerError("What has no owner was kept from the engine")
    return owner


def _salting(send: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    async def send_salted(request: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  EngineCoreRequest
        request.cache_salt = nested_salt(_present_owner().salt, request.cache_salt or "") or None
        await send(request, *args, **kwargs)

    return send_salted

"""Prompts that a replica sends to its own API: to warm up, for its self-test, and to have a prefix cached."""

import asyncio
import logging
from collections.abc import Sequence

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.messages.receipts import ProbeResult
from serve_app.parity.self_test import Probe
from serve_app.replica.ownership import REPLICA, working_for
from serve_app.replica.vllm_outputs import EngineWatch

logger = logging.getLogger("ray.serve")

TIMEOUT_S = 600
"""How long one prompt may take: an engine may compile for minutes while it is warmed up."""
PROBE_TIMEOUT_S = 60.0
"""Seconds that each probe of the self-test may take, which waits its turn at the engine like any prompt."""
WARM_UP_PROMPT_CHARS = (16, 512, 4096)


class OwnPrompts:
    """A client of vLLM's app in this process, past all middleware of ours.

    Args:
        app: vLLM's app, before any middleware of ours is added.
        api_key: the key that vLLM demands; empty for none.
        model: the model's name for clients.
        watch: tells what the engine made of a prompt.

    """

    def __init__(self, app: FastAPI, *, api_key: str, model: str, watch: EngineWatch) -> None:
        self._model = model
        self._watch = watch
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=_as_built(app)),
            base_url="http://replica",
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    async def warm_up(self) -> None:
        """Serve a few prompts, so that no client waits for compilation."""
        for num_chars in WARM_UP_PROMPT_CHARS:
            body = {"model": self._model, "prompt": "warm up " * (num_chars // 8), "max_tokens": 4}
            response = await self._client.post("/v1/completions", json=body)
            if response.is_client_error:
                # An embedding model, say, or a short context: nothing to warm up in this way.
                logger.info("Not warmed up further: the engine answers %d", response.status_code)
                break
            response.raise_for_status()

    async def prefill(self, token_ids: Sequence[int]) -> bool:
        """Compute a prompt, to have it cached; says whether that went well."""
        body = {"model": self._model, "prompt": list(token_ids), "max_tokens": 1}
        with self._watch.probing():
            response = await self._client.post("/v1/completions", json=body)
        return response.is_success

    async def probe(self, probe: Probe) -> ProbeResult | None:
        """What the engine makes of a probe; None if the API refuses it."""
        with self._watch.probing() as results:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                response = await self._client.post(probe.path, json=probe.body)
        if response.is_client_error:
            return None
        response.raise_for_status()
        return results[0]

    async def an_adapter(self) -> str:
        """The name of an adapter that vLLM lists along with the model; empty if there is none."""
        response = await self._client.get("/v1/models")
        models = response.json()["data"] if response.is_success else []
        return min((model["id"] for model in models if model.get("parent")), default="")


def _as_built(app: FastAPI) -> ASGIApp:
    """The app as it is now, whatever middleware comes before it later."""
    stack = app.build_middleware_stack()

    async def built(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        with working_for(REPLICA):
            await stack(scope, receive, send)

    return built

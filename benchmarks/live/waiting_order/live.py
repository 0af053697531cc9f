"""The same prompts at the same times to two vLLM servers that differ only in their order of waiting."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson

from benchmarks.harness import vllm_server
from benchmarks.harness.errors import MeasurementError
from benchmarks.live.waiting_order.figures import TimedAnswer
from benchmarks.live.waiting_order.traffic import Ask, make_traffic
from loadtests.client.exchange import TIMEOUT_S, ClientRequest, exchange
from serve_app.engines.options import replica_options
from serve_app.settings.schema import Settings, WaitingOrderName

ORDERS: tuple[WaitingOrderName, ...] = ("arrival", "shortest")
UNBOUND = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Otherwise both servers compute on the same core."""
NUM_PROBES = 60
"""Prompts that come at once, by which the capacity is measured."""


@contextlib.contextmanager
def running(settings: Settings, folder: Path) -> Iterator[dict[str, str]]:
    """The URL of a server for each order, of the settings' model; they log into the folder."""
    with contextlib.ExitStack() as stack:
        urls: dict[str, str] = {
            order: stack.enter_context(
                vllm_server.running(
                    server_options(settings, order),
                    variables=vllm_server.variables_of(settings.llm) | UNBOUND,
                    log=folder / f"{order}.log",
                )
            )
            for order in ORDERS
        }
        yield urls


def server_options(settings: Settings, order: WaitingOrderName) -> dict[str, Any]:
    """What `vllm serve` is told for a replica with these settings and this order."""
    replicas = settings.replicas.model_copy(update={"waiting_order": order})
    return vllm_server.options_of(replica_options(settings.model_copy(update={"replicas": replicas})))


async def capacity_tokens_per_s(urls: Mapping[str, str], model: str) -> float:
    """New prompt tokens that a server computes a second while all are busy: what is sent by the slowest's time."""
    asks = [Ask(0, each.token_ids, each.new_tokens, each.answer_tokens) for each in _probes()]
    started_s = time.monotonic()
    await ask_all(urls, model, asks)
    return sum(each.new_tokens for each in asks) / (time.monotonic() - started_s)


def _probes() -> list[Ask]:
    return make_traffic(num_prompts=NUM_PROBES, tokens_per_s=1.0, seed=0)


async def ask_all(urls: Mapping[str, str], model: str, asks: Sequence[Ask]) -> dict[str, list[TimedAnswer]]:
    """Every server's answers, in order of the prompts.

    Raises:
        MeasurementError: a server did not answer one of them.

    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # servers close idle connections
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, limits=limits) as client:
        started_s = time.monotonic()

        async def ask_at(url: str, ask: Ask) -> TimedAnswer:
            await asyncio.sleep(max(0.0, started_s + ask.at_s - time.monotonic()))
            return await _ask(client, url, model, ask)

        tasks = {order: [ask_at(url, ask) for ask in asks] for order, url in urls.items()}
        answers = await asyncio.gather(*(asyncio.gather(*each) for each in tasks.values()))
    return {order: list(each) for order, each in zip(tasks, answers, strict=True)}


async def _ask(client: httpx.AsyncClient, url: str, model: str, ask: Ask) -> TimedAnswer:
    """Read the answer to its end; the first piece has the first token."""
    body = {
        "model": model,
        "prompt": ask.token_ids,
        "max_tokens": ask.answer_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    answer = await exchange(client, ClientRequest("prompt", "prompt", f"{url}/v1/completions", orjson.dumps(body)))
    if answer.ttft_s is None:
        raise MeasurementError(f"{url} did not answer a prompt of {len(ask.token_ids)} tokens: {answer.outcome_text}")
    return TimedAnswer(len(ask.token_ids), answer.ttft_s)

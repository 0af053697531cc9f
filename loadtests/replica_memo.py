"""What is it worth that a replica does not tokenise a returning conversation anew? Starts vLLM's app in this process.

python -m loadtests.replica_memo --pairs 40

Each conversation returns twice, once to the memo and once not, with another last message and the same in the engine's
cache. The engine has its own process, so this one's CPU time is what the server needs for a request.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Annotated, Any

import httpx
import orjson
import typer
from rich.progress import Progress
from rich.table import Table

from loadtests.key_parity.engine import MODEL_NAME, command, llm_settings
from loadtests.key_parity.models import Model
from loadtests.live import SeedOption, make_console, verdict
from loadtests.tables import make_table
from serve_app.demo_model import WORKLOAD, build_demo_model
from serve_app.settings import ReplicaSettings

NUM_MESSAGES = 29
"""Of a conversation, before it returns with two more."""
MESSAGE_WORDS = 330
LAST_WORDS = 30
RUN_WORDS = 16
"""So many words in a row are as people wrote them."""
TIMEOUT_S = 120.0
JSON = {"content-type": "application/json"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one request; times in seconds."""

    prompt_tokens: int
    cached_tokens: int
    to_engine_s: float
    """From the request's arrival to the engine's getting it."""
    to_engine_cpu_s: float
    """Of this process, meanwhile."""
    first_token_s: float


@dataclass(frozen=True, slots=True)
class Pair:
    """One conversation's two returns."""

    without: Reading
    with_memo: Reading
    is_same: bool
    """Whether the engine got the same ids for both, each asked for again the other way."""


class Server:
    """VLLM's app, with a memo that can be left out.

    Args:
        client: of the app.
        engine_client: vLLM's.
        set_memo: puts it in, or takes it out.

    """

    def __init__(self, client: httpx.AsyncClient, engine_client: Any, set_memo: Callable[[bool], None]) -> None:  # noqa: ANN401
        self._client = client
        self._set_memo = set_memo
        self._at_engine: tuple[float, float] = (0.0, 0.0)
        processor = engine_client.output_processor
        add_request = processor.add_request

        def note(*arguments: Any, **named: Any) -> None:  # noqa: ANN401
            self._at_engine = time.perf_counter(), time.process_time()
            add_request(*arguments, **named)

        processor.add_request = note

    async def read(self, messages: Messages, *, with_memo: bool) -> Reading:
        """Send a chat, for one token."""
        self._set_memo(with_memo)
        content = orjson.dumps({"model": MODEL_NAME, "messages": messages, "max_tokens": 1})
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        response = await self._client.post("/v1/chat/completions", content=content, headers=JSON)
        first_token_s = time.perf_counter() - started_s
        usage = response.raise_for_status().json()["usage"]
        return Reading(
            usage["prompt_tokens"],
            usage["prompt_tokens_details"]["cached_tokens"],
            self._at_engine[0] - started_s,
            self._at_engine[1] - started_cpu_s,
            first_token_s,
        )

    async def ids(self, messages: Messages, *, with_memo: bool) -> list[int]:
        """What the engine gets."""
        self._set_memo(with_memo)
        body = {"model": MODEL_NAME, "messages": messages, "max_tokens": 1, "return_token_ids": True}
        response = await self._client.post("/v1/chat/completions", json=body)
        return list(response.raise_for_status().json()["prompt_token_ids"])


@app.command()
def main(
    pairs: Annotated[int, typer.Option(min=1, help="Conversations, each of which returns twice.")] = 40,
    model: Annotated[Path, typer.Option(help="The demo model's folder.")] = Path(".warmroute/demo-model"),
    seed: SeedOption = 1,
) -> None:
    """Send conversations, and let them return."""
    console = make_console()
    build_demo_model(model)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("conversations", total=pairs)
        found = asyncio.run(_measure(model, pairs, seed, lambda: progress.advance(bar)))
    console.print(result_table(found))
    verdict(console, [] if all(each.is_same for each in found) else ["the engine got other ids with the memo"])


async def _measure(model: Path, num_pairs: int, seed: int, on_pair: Callable[[], None]) -> list[Pair]:
    llm = llm_settings(Model(model))
    os.environ |= llm["runtime_env"]["env_vars"]
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    args = make_arg_parser(FlexibleArgumentParser()).parse_args(command(llm, port=1)[3:])
    async with build_async_engine_client(args) as engine_client:
        tasks = await engine_client.get_supported_tasks()
        vllm_app = build_app(args, tasks, engine_client.model_config)
        await init_app_state(engine_client, vllm_app.state, args, tasks)
        transport = httpx.ASGITransport(app=vllm_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://replica", timeout=TIMEOUT_S) as client:
            server = Server(client, engine_client, _memo_switch(vllm_app.state.online_renderer))
            return await _pairs(server, num_pairs, seed, on_pair)


def _memo_switch(online_renderer: Any) -> Callable[[bool], None]:  # noqa: ANN401  vLLM's
    from serve_app.prompt_memo import make_token_memo

    renderer = online_renderer.renderer
    plain = renderer._tokenize_prompt_async  # noqa: SLF001  what the memo puts itself in place of
    max_bytes = round(ReplicaSettings().token_memo_mib * 2**20)
    if make_token_memo(online_renderer, online_renderer.chat_template, max_bytes=max_bytes) is None:
        raise RuntimeError("there is no memo for this model")
    remembering = renderer._tokenize_prompt_async  # noqa: SLF001

    def switch(is_on: bool) -> None:  # noqa: FBT001  what a switch takes
        renderer._tokenize_prompt_async = remembering if is_on else plain  # noqa: SLF001

    return switch


async def _pairs(server: Server, num_pairs: int, seed: int, on_pair: Callable[[], None]) -> list[Pair]:
    words = (WORKLOAD / "corpus.txt").read_text(encoding="utf-8").split()
    pairs = []
    for number in range(num_pairs + 1):  # the first is for warming up
        rng = Random(f"replica memo {seed} {number}")
        conversation = list(_conversation(words, number, rng))
        await server.read(conversation, with_memo=True)
        returns = [_returned(conversation, words, rng) for _ in range(2)]
        order = (False, True) if number % 2 else (True, False)
        readings = {
            each: await server.read(messages, with_memo=each) for each, messages in zip(order, returns, strict=True)
        }
        ids = [[await server.ids(messages, with_memo=each) for each in (False, True)] for messages in returns]
        pairs.append(Pair(readings[False], readings[True], all(without == with_memo for without, with_memo in ids)))
        on_pair()
    return pairs[1:]


def _conversation(words: Sequence[str], number: int, rng: Random) -> Iterator[dict[str, str]]:
    for turn in range(NUM_MESSAGES):
        text = _text(words, MESSAGE_WORDS, rng)
        yield {"role": "assistant" if turn % 2 else "user", "content": text if turn else f"Case {number}: {text}"}


def _returned(conversation: Messages, words: Sequence[str], rng: Random) -> Messages:
    answer, question = (_text(words, LAST_WORDS, rng) for _ in range(2))
    return [*conversation, {"role": "assistant", "content": answer}, {"role": "user", "content": question}]


def _text(words: Sequence[str], num_words: int, rng: Random) -> str:
    parts: list[str] = []
    while len(parts) < num_words:
        start = rng.randrange(len(words) - RUN_WORDS)
        parts += words[start : start + RUN_WORDS]
    return " ".join(parts[:num_words])


def result_table(pairs: Sequence[Pair]) -> Table:
    """Medians; what is saved is the median of the pairs' differences."""
    tokens = median(each.with_memo.prompt_tokens for each in pairs)
    cached = median(each.with_memo.cached_tokens for each in pairs)
    table = make_table(
        f"{len(pairs)} conversations of {tokens:,.0f} tokens, {cached:,.0f} of them cached; medians",
        left=("",),
        right=("without ms", "with ms", "saved ms", "with / without", "pairs faster"),
    )
    rows: tuple[tuple[str, Callable[[Reading], float]], ...] = (
        ("first token", lambda reading: reading.first_token_s),
        ("until the engine has it", lambda reading: reading.to_engine_s),
        ("CPU of the server until then", lambda reading: reading.to_engine_cpu_s),
    )
    for name, of in rows:
        without, with_memo = ([1000 * of(reading) for reading in each] for each in _columns(pairs))
        saved = [before - after for before, after in zip(without, with_memo, strict=True)]
        table.add_row(
            name,
            f"{median(without):.1f}",
            f"{median(with_memo):.1f}",
            f"{median(saved):.1f}",
            f"{median(with_memo) / median(without):.2f}",
            f"{sum(each > 0 for each in saved)} of {len(saved)}",
        )
    return table


def _columns(pairs: Sequence[Pair]) -> tuple[list[Reading], list[Reading]]:
    return [each.without for each in pairs], [each.with_memo for each in pairs]


if __name__ == "__main__":
    app()

"""What the replicas would report of the decisions, if they had engines: so the routers pay for receipts as well."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import orjson
from msgspec.structs import replace

from benchmarks.cost.route_cost.applications import OURS, STAND_IN
from benchmarks.cost.route_cost.stand_in import BLOCK_SIZE, SERVED_PATH
from router import BlockHasher
from serve_app.messages.receipts import ProbeResult, SelfTestReport
from serve_app.messages.routing_note import NOTE_HEADER, RoutingNote
from serve_app.messages.snapshot import short_id
from serve_app.parity.self_test import hash_probes, probes_of
from serve_app.parity.verdicts import expect
from serve_app.prompt.incoming import RequestReader
from serve_app.prompt.served_model import ServedModel
from serve_app.settings.cluster_secret import derived_key

INTERVAL_S = 0.0125
"""Seconds after which the next replica reports."""
SELF_TEST_PERIOD_S = 86_400.0
REPORT_TIMEOUT_S = 5.0


class Reporter:
    """Tells the stand-in replicas of each decision, as if it had been served at once."""

    def __init__(self, replica_to_url: Mapping[str, str]) -> None:
        from ray import serve

        self._replicas = serve.get_deployment_handle(STAND_IN, app_name=OURS)
        self._replica_to_url = replica_to_url
        self._served: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
        self._last: RoutingNote | None = None
        self._note_key = derived_key(NOTE_HEADER)

    async def set_self_test(self, report: SelfTestReport) -> None:
        """Let all replicas report it."""
        await self._replicas.broadcast("set_self_test", report).results_async(timeout_s=REPORT_TIMEOUT_S)

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of the last decision."""
        return 0 if self._last is None else self._last.prompt_tokens or 0

    def on_answer(self, content: bytes) -> None:
        """A router's answer."""
        note = RoutingNote.decode(orjson.loads(content)["request_headers"][NOTE_HEADER], self._note_key)
        self._last = note
        self._served[note.replica_id].append(
            (note.request_id, note.prompt_tokens or 0, note.believed_cached_tokens or 0)
        )

    @contextlib.asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """While the block lasts, and what is left at its end."""
        async with httpx.AsyncClient(trust_env=False) as client:
            task = asyncio.create_task(self._report_for_ever(client))
            try:
                yield
            finally:
                task.cancel()
                while self._served:
                    await self._report(client)

    async def _report_for_ever(self, client: httpx.AsyncClient) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            if self._served:
                await self._report(client)

    async def _report(self, client: httpx.AsyncClient) -> None:
        """Report to the replica that has waited longest."""
        replica_id = next(iter(self._served))
        served, url = self._served.pop(replica_id), self._replica_to_url[short_id(replica_id)]
        (await client.post(f"{url}/{OURS}{SERVED_PATH}", content=orjson.dumps(served))).raise_for_status()


async def good_report(llm: dict[str, Any]) -> SelfTestReport:
    """The self-test's report as of a good replica: stand-ins serve no probes, and routers do not trust a silent one."""
    from serve_app.prompt.vllm_reader import PromptReader

    model = ServedModel.from_llm(llm)
    reader = RequestReader(session_header="", model=model, max_sequences=1)
    reader.prompts = PromptReader(llm, max_memo_bytes=0)
    blank = SelfTestReport(
        nonce="good",
        model=model.name,
        adapter="",
        block_size=BLOCK_SIZE,
        period_s=SELF_TEST_PERIOD_S,
        probes_hash=0,
        results=(),
    )
    report = replace(blank, probes_hash=hash_probes(probes_of(blank)))
    expected = await expect(report, reader.read, BlockHasher(block_size=BLOCK_SIZE))
    return replace(report, results=tuple(None if probe is None else ProbeResult(*probe) for probe in expected))

"""A self-test's report as of a good replica: stand-ins serve no probes, and routers do not trust a silent one."""

from typing import Any

from msgspec.structs import replace

from benchmarks.cost.route_cost.stand_in import BLOCK_SIZE
from router import BlockHasher
from serve_app.messages.receipts import ProbeResult, SelfTestReport
from serve_app.parity.self_test import hash_probes, probes_of
from serve_app.parity.verdicts import expect
from serve_app.prompt.incoming import RequestReader
from serve_app.prompt.served_model import ServedModel

PERIOD_S = 86_400.0


async def good_report(llm: dict[str, Any]) -> SelfTestReport:
    """Just as the routers expect it."""
    from serve_app.prompt.vllm_reader import PromptReader

    model = ServedModel.from_llm(llm)
    reader = RequestReader(session_header="", model=model, max_sequences=1)
    reader.prompts = PromptReader(llm, max_memo_bytes=0)
    blank = SelfTestReport(
        nonce="good", model=model.name, adapter="", block_size=BLOCK_SIZE, period_s=PERIOD_S, probes_hash=0, results=()
    )
    report = replace(blank, probes_hash=hash_probes(probes_of(blank)))
    expected = await expect(report, reader.read, BlockHasher(block_size=BLOCK_SIZE))
    return replace(report, results=tuple(None if each is None else ProbeResult(*each) for each in expected))

"""Does an engine reuse what `warmroute audit` promises? Prompts that drift, as they are and as `--fix` writes them.

Three logs with tools in several orders, keys in several orders, and other line ends: a recorded agent, function
calling, an MCP server's tools. The audit says what one cache would reuse of each; then the same requests go, one after
the other, to one replica with a cache as large, whose engine counts. Its scheduler and cache are vLLM's own, its model
may be simulated.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import httpx
import orjson
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.harness.command import TEXTS, DataOption, SeedOption, make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import own_server
from benchmarks.virtual.audit_corpus.drift import drifting_logs
from benchmarks.virtual.audit_corpus.texts import Body, Texts
from loadtests.client.exchange import CHAT, TIMEOUT_S
from loadtests.report.console import notes_console
from loadtests.report.tables import make_table
from serve_app.audit.audit import Audit, Options, audit
from serve_app.audit.cache_replay import Sums
from serve_app.control.running_application import RunningApplication
from serve_app.local.cluster import StartError
from serve_app.settings import vllm_options
from serve_app.settings.load import load_settings
from serve_app.settings.schema import Settings

KV_TOKENS = 3_200_000
PREFILL_TOKENS_PER_S = 2_000_000.0
STEP_S = 0.001
TOLERANCE = 0.02
"""The share of the promised hit rate by which the measured one may differ."""

app = make_app()


class Promised(NamedTuple):
    """What the audit promises for one log."""

    name: str
    bodies: Sequence[Body]
    fixed_bodies: Sequence[Body]
    audit: Audit


class PromiseRow(NamedTuple):
    """What was promised and measured for one log in one form."""

    log: str
    form: str
    promised: Sums
    measured: Sums

    @property
    def is_kept(self) -> bool:
        """Whether the two hit rates agree."""
        return abs(self.measured.hit_rate - self.promised.hit_rate) <= TOLERANCE * self.promised.hit_rate


@app.command()
@measurement
def main(
    config: Annotated[Path, typer.Argument(help="The settings of the application.")],
    *,
    data: DataOption = TEXTS,
    requests: Annotated[int, typer.Option(min=2, help="Requests of each log.")] = 300,
    seed: SeedOption = 1,
) -> Report:
    """Compare promised and measured hit rates; exit with 1 if they differ."""
    console = notes_console()
    settings = _one_replica(vllm_options.with_absolute_model_path(load_settings(config)))
    try:
        logs = drifting_logs(Texts(data), num_requests=requests, seed=seed)
    except OSError as error:
        raise MeasurementError(f"the texts are not there: {error}") from error
    promises = [_promise(name, bodies, settings) for name, bodies in logs.items()]
    rows = _measured(settings, promises, console)
    records = {"rows": [row._asdict() | {"is_kept": row.is_kept} for row in rows]}
    faults = [
        f"{row.log}, {row.form}: the engine reused another share than promised" for row in rows if not row.is_kept
    ]
    return Report([_table(rows)], records, faults)


def _one_replica(settings: Settings) -> Settings:
    """One replica whose cache has room for a whole log, and which loses no time on a simulated model."""
    deployment = {**settings.llm.get("deployment_config", {}), "num_replicas": 1}
    engine = {**settings.llm.get("engine_kwargs", {})}
    engine["num_gpu_blocks_override"] = KV_TOKENS // engine["block_size"]
    timing = {"prefill_tokens_per_s": PREFILL_TOKENS_PER_S, "step_s": STEP_S}
    return settings.model_copy(
        update={
            "llm": {**settings.llm, "deployment_config": deployment, "engine_kwargs": engine},
            "engine_model": settings.engine_model.model_copy(update=timing),
            "ops": settings.ops.model_copy(update={"enabled": False}),
        }
    )


def _promise(name: str, bodies: Sequence[Body], settings: Settings) -> Promised:
    from serve_app.audit.token_reader import TokenReader

    tokens = TokenReader(settings.llm, block_size=settings.llm["engine_kwargs"]["block_size"])
    fixed: list[Body] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.jsonl")
        path.write_bytes(b"".join(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE) for body in bodies))
        options = Options(KV_TOKENS, lambda _: None)
        done = asyncio.run(
            audit([path], tokens, options, on_read=lambda _: None, on_fixed=lambda _, body: fixed.append(body))
        )
    return Promised(name, bodies, fixed, done)


def _measured(settings: Settings, promises: Sequence[Promised], console: Console) -> list[PromiseRow]:
    with (
        own_server(settings) as run,
        RunningApplication(
            run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url
        ) as application,
    ):
        rows = []
        for name, bodies, fixed_bodies, done in promises:
            for form, sent, promised in (
                ("as it is", bodies, done.as_is),
                ("--fix", fixed_bodies, done.normalised),
            ):
                application.reset_caches()
                measured = _sent(sent, run.url, settings.model_id, f"{name}, {form}", console)
                rows.append(PromiseRow(name, form, promised, measured))
    return rows


def _sent(bodies: Sequence[Body], url: str, model: str, name: str, console: Console) -> Sums:
    """Send the requests one after the other."""
    offered = cached = 0
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
        for body in track(bodies, name, console=console, transient=True):
            response = client.post(CHAT, json={**body, "model": model, "max_tokens": 1})
            if response.is_error:
                raise StartError(f"a request was refused with {response.status_code}: {response.text[:200]}")
            usage = response.json()["usage"]
            offered += usage["prompt_tokens"]
            cached += (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Sums(len(bodies), offered, cached)


def _table(rows: Sequence[PromiseRow]) -> Table:
    table = make_table(
        "Promised by the audit, and counted by the engine",
        left=("log", "form"),
        right=("requests", "prompt tokens", "counted", "reusable", "reused", "promised", "hit rate", ""),
    )
    for row in rows:
        promised, measured = row.promised, row.measured
        table.add_row(
            row.log,
            row.form,
            str(measured.num_requests),
            f"{promised.offered_tokens:,}",
            f"{measured.offered_tokens:,}",
            f"{promised.cached_tokens:,}",
            f"{measured.cached_tokens:,}",
            f"{promised.hit_rate:.4f}",
            f"{measured.hit_rate:.4f}",
            "kept" if row.is_kept else "BROKEN",
        )
    return table

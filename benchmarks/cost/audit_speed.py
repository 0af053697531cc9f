"""How long `warmroute audit` takes for a large log, and how much memory.

The log is made up: requests of many applications, each with a system prompt of its own, in conversations of a few
turns that are mixed. Some applications have a date at the start, some have trailing spaces now and then.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated

import orjson
import typer
import zstandard

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.report import Report
from serve_app.demo.model import build_demo_model

WORDS = """
account address agent answer booking branch calendar carrier change customer date delay delivery desk document
fee flight form gate guest invoice item letter limit luggage manager member message number office order owner
parcel partner payment plan policy price queue rate reason receipt refund region report request return room
route rule seat section service session shift ship status stock store term ticket time tour train transfer
trip user value visit voucher week
"""
MODEL = Path(".warmroute/demo-model")
"""The model whose tokenizer the audit's own default settings name."""
SYSTEM_WORDS, QUESTION_WORDS, ANSWER_WORDS = 800, 40, 60
MAX_TURNS = 4
NUM_APPLICATIONS = 50

app = make_app()


@app.command()
@measurement
def main(
    requests: Annotated[int, typer.Option(min=1, help="Requests in the log.")] = 1_000_000,
    seed: SeedOption = 1,
) -> Report:
    """Write a log, audit it in a process of its own, and report its time and its peak of memory."""
    build_demo_model(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.jsonl.zst")
        write_log(path, num_requests=requests, seed=seed)
        started_s = time.perf_counter()
        ended = subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-m", "warmroute.cli", "audit", str(path)], check=False, capture_output=True, text=True
        )
        seconds = time.perf_counter() - started_s
    if ended.returncode:
        raise MeasurementError(f"`warmroute audit` ended with status {ended.returncode}: {ended.stderr[-500:]}")
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    line = f"{requests:,} requests: {seconds:,.0f} s, {requests / seconds:,.0f} a second, {peak_mib:,.0f} MiB at most"
    return Report((), {"requests": requests, "seconds": seconds, "peak_mib": peak_mib}, lines=[line])


def write_log(path: Path, *, num_requests: int, seed: int) -> None:
    """Write the log, compressed with zstd."""
    rng = Random(seed)
    systems = [_sentences(rng, SYSTEM_WORDS) for _ in range(NUM_APPLICATIONS)]
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for _, body in zip(range(num_requests), _bodies(rng, systems), strict=False):
            writer.write(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))


def _bodies(rng: Random, systems: list[str]) -> Iterator[dict[str, object]]:
    while True:
        place = rng.randrange(len(systems))
        system = systems[place]
        talk: list[dict[str, str]] = []
        for _ in range(rng.randint(1, MAX_TURNS)):
            talk.append({"role": "user", "content": _sentences(rng, QUESTION_WORDS)})
            yield {"model": "gpt-4o", "messages": [{"role": "system", "content": _variant(rng, place, system)}, *talk]}
            talk.append({"role": "assistant", "content": _sentences(rng, ANSWER_WORDS)})


def _variant(rng: Random, place: int, system: str) -> str:
    if place % 10 == 0:
        return f"Today is 2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}.\n{system}"
    if place % 10 == 1 and rng.random() < 0.3:  # noqa: PLR2004  now and then
        return system.replace("\n", " \n")
    return system


def _sentences(rng: Random, num_words: int) -> str:
    words = rng.choices(WORDS.split(), k=num_words)
    return "\n".join(" ".join(words[start : start + 12]).capitalize() + "." for start in range(0, num_words, 12))

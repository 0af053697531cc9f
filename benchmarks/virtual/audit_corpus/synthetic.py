"""A large log of made-up requests, to see how long `warmroute audit` takes and how much memory.

python -m benchmarks.virtual.audit_corpus.synthetic million.jsonl.zst --requests 1000000

Requests of many applications with system prompts of their own, mixed; conversations of a few turns; in some
applications a date at the start, in some trailing spaces now and then.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated

import orjson
import typer
import zstandard

from benchmarks.harness.running_server import SeedOption

WORDS = """
account address agent answer booking branch calendar carrier change customer date delay delivery desk document
fee flight form gate guest invoice item letter limit luggage manager member message number office order owner
parcel partner payment plan policy price queue rate reason receipt refund region report request return room
route rule seat section service session shift ship status stock store term ticket time tour train transfer
trip user value visit voucher week
"""
SYSTEM_WORDS, QUESTION_WORDS, ANSWER_WORDS = 800, 40, 60
MAX_TURNS = 4

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    path: Annotated[Path, typer.Argument(help="To write; compressed with zstd.")],
    *,
    requests: Annotated[int, typer.Option(min=1)] = 1_000_000,
    applications: Annotated[int, typer.Option(min=1)] = 50,
    seed: SeedOption = 1,
) -> None:
    """Write the log."""
    rng = Random(seed)
    systems = [_sentences(rng, SYSTEM_WORDS) for _ in range(applications)]
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for number, body in zip(range(requests), _bodies(rng, systems), strict=False):
            del number
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


if __name__ == "__main__":
    app()

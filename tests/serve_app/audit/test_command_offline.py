"""`warmroute audit` as it is called, but with words for tokens: what it reads, writes, prints and exits with."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import zstandard
from click.testing import Result
from typer.testing import CliRunner

from serve_app.audit.command import BELOW_TARGET, MAX_DIFFS, UNUSABLE, app
from serve_app.audit.normal_form import normal_form
from tests.serve_app.audit.logs import POLICY, QUESTIONS, TOOLS, Body, WordTokens, chat, conversation, write

DRIFTING: list[Body] = [
    chat(POLICY + " \n" * (talk % 3), *conversation(talk, turn), tools=TOOLS if talk % 2 else tuple(reversed(TOOLS)))
    for turn in range(3)
    for talk in range(6)
]


class Reader(WordTokens):
    """In place of the one that needs vLLM; notes the block size that it was given."""

    def __init__(self, llm: dict[str, Any], *, block_size: int) -> None:
        super().__init__()
        assert llm["model_loading_config"]["model_id"] == "any"
        type(self).given_block_size = block_size

    given_block_size = 0


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings with a model that is nowhere."""
    module = ModuleType("serve_app.audit.token_reader")
    module.TokenReader = Reader  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = tmp_path / "settings.yaml"
    path.write_text("llm: {model_loading_config: {model_id: any}, engine_kwargs: {block_size: 8}}")
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Requests that drift in tools and white space."""
    return write(tmp_path / "log.jsonl", DRIFTING)


def call(config: Path, *arguments: object) -> Result:
    """In this process."""
    return CliRunner().invoke(app, ["--config", str(config), *map(str, arguments)])


def lines(path: Path) -> list[Body]:
    """A log as it was written."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_fix_writes_what_it_promises(config: Path, log: Path, tmp_path: Path) -> None:
    """A line for each request in the order of the log, in normal form; its audit has the figures that were promised."""
    fixed, before, after = (tmp_path / name for name in ("fixed.jsonl", "before.json", "after.json"))
    assert call(config, log, "--fix", fixed, "--json", before).exit_code == 0
    assert lines(fixed) == [normal_form(body) for body in DRIFTING]
    assert call(config, fixed, "--json", after).exit_code == 0
    promised, found = (json.loads(path.read_text()) for path in (before, after))
    assert found["as_is"] == found["normal_form"] == promised["normal_form"]
    assert promised["as_is"]["hit_rate"] < promised["normal_form"]["hit_rate"]
    assert not {"tool-order", "trivia"} & {finding["kind"] for finding in found["findings"]}


def test_the_fix_of_a_fix_changes_nothing(config: Path, log: Path, tmp_path: Path) -> None:
    """Byte by byte, and there is no diff."""
    once, twice, diff = (tmp_path / name for name in ("once", "twice", "diff"))
    call(config, log, "--fix", once)
    assert call(config, once, "--fix", twice, "--diff", diff).exit_code == 0
    assert once.read_bytes() == twice.read_bytes()
    assert diff.read_text() == ""


def test_the_fix_leaves_out_what_is_no_request(config: Path, tmp_path: Path) -> None:
    """And what was wrapped comes without its wrapping, as it is sent."""
    log, fixed = tmp_path / "log", tmp_path / "fixed"
    content = [b"{", json.dumps({"id": 1, "body": DRIFTING[0]}).encode(), b"[]", json.dumps(DRIFTING[1]).encode()]
    log.write_bytes(zstandard.ZstdCompressor().compress(b"\n".join(content)))
    assert call(config, log, "--fix", fixed).exit_code == 0
    assert lines(fixed) == [normal_form(body) for body in DRIFTING[:2]]


def test_a_diff_shows_each_request_that_changes(config: Path, log: Path, tmp_path: Path) -> None:
    """By its place in the log; no more than the first ones."""
    diff = tmp_path / "diff"
    assert call(config, log, "--diff", diff).exit_code == 0
    changed = [number for number, body in enumerate(DRIFTING, 1) if normal_form(body) is not body]
    assert [line for line in diff.read_text().splitlines() if line.startswith("---")] == [
        f"--- {log}:{number}" for number in changed
    ]
    many = write(log, [chat(f"{POLICY} \n", f"{QUESTIONS[0]} {number}") for number in range(MAX_DIFFS + 5)])
    assert call(config, many, "--diff", diff).exit_code == 0
    assert diff.read_text().count("\n+++ ") == MAX_DIFFS


@pytest.mark.parametrize(("options", "block_size"), [((), 8), (("--block-size", 4), 4), (("--block-size", 64), 64)])
def test_the_block_size_is_the_settings_or_the_options(
    config: Path, log: Path, options: tuple[object, ...], block_size: int
) -> None:
    """The option comes first."""
    assert call(config, log, *options).exit_code == 0
    assert Reader.given_block_size == block_size


def test_the_block_size_is_vllms_where_none_is_set(config: Path, log: Path) -> None:
    """Which is 16."""
    config.write_text("llm: {model_loading_config: {model_id: any}}")
    assert call(config, log).exit_code == 0
    assert Reader.given_block_size == 16


def test_the_hit_rate_decides_over_the_exit_status(config: Path, log: Path, tmp_path: Path) -> None:
    """Equal is enough; reports are written all the same."""
    report = tmp_path / "audit.json"
    call(config, log, "--json", report)
    rate = json.loads(report.read_text())["as_is"]["hit_rate"]
    assert call(config, log, "--fail-under", rate).exit_code == 0
    report.unlink()
    result = call(config, log, "--fail-under", rate + 0.001, "--json", report)
    assert result.exit_code == BELOW_TARGET
    assert report.exists()
    assert "was wanted" in result.output


def test_a_small_cache_reuses_less(config: Path, log: Path, tmp_path: Path) -> None:
    """The replay goes through a cache of the size that is asked for."""
    report = tmp_path / "audit.json"
    rates = []
    for num_tokens in (8, 2_000, 100_000):
        call(config, log, "--kv-tokens", num_tokens, "--json", report)
        content = json.loads(report.read_text())
        assert content["cache_tokens"] == num_tokens
        rates.append(content["as_is"]["hit_rate"])
    assert rates[0] < rates[1] < rates[2]


def test_several_files_are_one_log(config: Path, tmp_path: Path) -> None:
    """In the order in which they are given; what the first one has is cached for the second."""
    one, two, report = (write(tmp_path / name, [DRIFTING[0]]) for name in ("one", "two", "report"))
    assert call(config, one, two, "--json", report).exit_code == 0
    content = json.loads(report.read_text())
    assert content["files"] == [str(one), str(two)]
    assert content["as_is"]["requests"] == 2
    assert content["as_is"]["cached_tokens"] > 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no request could be read"),
        (b"no JSON\n", "not a JSON object: 1 line"),
        (b'{"messages": [{"role": "user", "content": "REFUSE"}]}\n', "refused by the model's chat template"),
        (b"\x28\xb5\x2f\xfd", "the compressed file is damaged"),
        (b"\x1f\x8b\x08", "the compressed file is damaged"),
        (zstandard.ZstdCompressor().compress(json.dumps(DRIFTING[0]).encode() * 3)[:200], "is damaged"),
    ],
)
def test_a_log_without_requests_is_refused(config: Path, tmp_path: Path, content: bytes, expected: str) -> None:
    """With what is wrong; nothing is written but the empty file of fixed requests."""
    log, report = tmp_path / "log", tmp_path / "report"
    log.write_bytes(content)
    result = call(config, log, "--json", report)
    assert result.exit_code == UNUSABLE
    assert expected in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not report.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nowhere.jsonl",), "nowhere.jsonl"),
        (("log.jsonl", "--prices", "nowhere.yaml"), "cannot read the prices in nowhere.yaml"),
        (("log.jsonl", "--config", "nowhere.yaml"), "cannot read settings nowhere.yaml"),
        (("log.jsonl", "--fix", "no/folder/fixed"), "no/folder/fixed"),
        ((".",), "Is a directory"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    config: Path, log: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    """In one sentence, with the exit status of a wrong call."""
    monkeypatch.chdir(log.parent)
    result = call(config, *arguments)
    assert result.exit_code == UNUSABLE
    assert result.output.startswith("error: ")
    assert expected in result.output


def test_own_prices_are_used(config: Path, log: Path, tmp_path: Path) -> None:
    """By the million tokens that are saved."""
    prices, report = tmp_path / "prices.yaml", tmp_path / "report"
    prices.write_text("gpt-4o: {input: 1000003, cached: 3}")
    assert call(config, log, "--prices", prices, "--json", report).exit_code == 0
    saved = json.loads(report.read_text())["saved_by_kind"]["tool-order"]
    assert saved["dollars"] == pytest.approx(saved["tokens"])


def test_the_checklist_is_printed_alone(config: Path, log: Path) -> None:
    """Item by item."""
    output = call(config, log, "--checklist").output
    assert "Tools, JSON and texts in one form" in output
    assert "Applications, by prompt tokens" not in output


def test_a_missing_library_is_named_with_its_extra(config: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the log is read."""
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    result = call(config, log)
    assert result.exit_code == UNUSABLE
    assert result.output == (
        'error: this needs phonenumbers, which is not installed: pip install "warmroute[audit,cpu]", '
        'or "warmroute[audit,gpu]" where there are GPUs\n'
    )

"""`warmroute audit` as it is called, with the demo model's own tokenizer and chat template.

`make test` runs it in a process of its own, as vLLM is imported in it.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from serve_app.audit.command import BELOW_TARGET, CONFIG, UNUSABLE, app
from tests.serve_app.audit.logs import POLICY, QUESTIONS, TOOLS, Body, chat, conversation, write

pytestmark = [pytest.mark.own_process, pytest.mark.filterwarnings("ignore")]  # vLLM's own

DRIFTING = [
    chat(POLICY + "\n" * (talk % 3), *conversation(talk, turn), tools=TOOLS if talk % 2 else tuple(reversed(TOOLS)))
    for turn in range(3)
    for talk in range(6)
]


def call(*arguments: object) -> Result:
    """In this process."""
    return CliRunner().invoke(app, list(map(str, arguments)))


def as_json(tmp_path: Path, *arguments: object) -> tuple[Result, dict[str, Any]]:
    """With `--json`."""
    path = tmp_path / "audit.json"
    result = call(*arguments, "--json", path)
    return result, json.loads(path.read_text())


def test_it_prints_and_writes_what_it_found(tmp_path: Path) -> None:
    """In words, as JSON and as a page; none has any text of a prompt."""
    log, page = write(tmp_path / "log.jsonl", DRIFTING), tmp_path / "audit.html"
    result, found = as_json(tmp_path, log, "--html", page)
    assert result.exit_code == 0
    assert found["as_is"]["requests"] == len(DRIFTING)
    assert {each["kind"] for each in found["findings"]} >= {"tool-order", "trivia"}
    assert found["as_is"]["hit_rate"] < found["normal_form"]["hit_rate"]
    assert found["saved_by_kind"]["tool-order"]["dollars"] > 0
    for written in (result.output, page.read_text(), json.dumps(found)):
        assert "rule number 7" not in written
        assert QUESTIONS[0] not in written


def test_what_is_fixed_is_in_order_and_reuses_what_was_promised(tmp_path: Path) -> None:
    """A line for each request, and a diff of those that changed."""
    log, fixed, diff = write(tmp_path / "log.jsonl", DRIFTING), tmp_path / "fixed.jsonl", tmp_path / "fixed.diff"
    _, found = as_json(tmp_path, log, "--fix", fixed, "--diff", diff)
    _, again = as_json(tmp_path, fixed)
    assert again["as_is"] == found["normal_form"] == again["normal_form"]
    assert not {"tool-order", "trivia"} & {each["kind"] for each in again["findings"]}
    assert diff.read_text().count(f"--- {log}:") == sum(
        json.dumps(body) != line for body, line in zip(DRIFTING, fixed.read_text().splitlines(), strict=True)
    )


def test_the_hit_rate_decides_over_the_exit_status(tmp_path: Path) -> None:
    """For continuous integration."""
    log = write(tmp_path / "log.jsonl", DRIFTING)
    assert call(log, "--fail-under", 0.1).exit_code == 0
    result = call(log, "--fail-under", 0.99)
    assert result.exit_code == BELOW_TARGET
    assert "0.99 was wanted" in result.output


def test_the_checklist_is_short(tmp_path: Path) -> None:
    """Item by item, and nothing else."""
    result = call(write(tmp_path / "log.jsonl", DRIFTING), "--checklist")
    assert result.exit_code == 0
    assert "Tools, JSON and texts in one form" in result.output
    assert "by what fixing saves" not in result.output


def test_bad_lines_are_counted_and_named(tmp_path: Path) -> None:
    """The others are read; several files are one log."""
    log, other = tmp_path / "log.jsonl", tmp_path / "other.gz"
    lines = [
        json.dumps(DRIFTING[0]).encode(),
        b"{",
        b"\xff\xfe",
        b'{"a": 1}',
        b'{"messages": [{"role": "user", "content": 5}]}',
    ]
    log.write_bytes(b"\n".join(lines))
    other.write_bytes(gzip.compress(json.dumps({"body": DRIFTING[1]}).encode()))
    result, found = as_json(tmp_path, log, other)
    assert result.exit_code == 0
    assert found["as_is"]["requests"] == 2
    assert {flaw: each["lines"] for flaw, each in found["not_read"].items()} == {
        "not_json": 1,
        "not_text": 1,
        "no_prompt": 1,
        "not_rendered": 1,
    }
    assert found["not_read"]["not_text"]["examples"] == [{"file": str(log), "line": 3, "offset": len(lines[0]) + 3}]
    assert "Not read, not UTF-8 text: 1 line" in result.output


def test_all_apis_are_read(tmp_path: Path) -> None:
    """OpenAI's three and Anthropic's, in one log; the two chats of one conversation share its prompt."""
    system, question = POLICY, QUESTIONS[0]
    bodies: list[Body] = [
        chat(system, question),
        {"system": system, "messages": [{"role": "user", "content": question}]},
        {"model": "m", "instructions": system, "input": question},
        {"model": "m", "prompt": f"{system}\n{question}"},
    ]
    _, found = as_json(tmp_path, write(tmp_path / "log.jsonl", bodies))
    assert (found["as_is"]["requests"], found["not_read"]) == (4, {})
    assert found["as_is"]["cached_tokens"] > 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no request could be read"),
        (b"\xff\xfe\x00" * 50, "not UTF-8"),
        (b"[1]\n" * 3, "not a JSON object: 3 lines"),
    ],
)
def test_a_log_without_requests_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    """With what is in it instead."""
    log = tmp_path / "log.jsonl"
    log.write_bytes(content)
    result = call(log)
    assert result.exit_code == UNUSABLE
    assert expected in result.output
    assert "Traceback" not in result.output


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Files that are not there, and prices that are none."""
    log, prices = write(tmp_path / "log.jsonl", DRIFTING), tmp_path / "prices.yaml"
    prices.write_text("gpt-4o: cheap")
    for arguments, expected in (
        ((tmp_path / "nowhere",), "nowhere"),
        ((log, "--prices", prices), "gpt-4o"),
        ((log, "--config", tmp_path / "no.yaml"), "no.yaml"),
    ):
        result = call(*arguments)
        assert result.exit_code == UNUSABLE
        assert "error:" in result.output
        assert expected in result.output


def test_the_hook_calls_a_command_that_exists() -> None:
    """With options that it has; the configuration whose model is used by default is there."""
    (hook,) = yaml.safe_load(Path(".pre-commit-hooks.yaml").read_text())
    program, name, *options = hook["entry"].split()
    assert (program, name) == ("warmroute", "audit")
    usage = call("--help").output
    assert all(option in usage for option in options if option.startswith("--"))
    assert CONFIG.exists()

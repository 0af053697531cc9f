"""`warmroute plan`, on small traces."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.loadtests.replay.traces import write_conversations, write_sessions
from warmroute.cli import app


def invoke(*arguments: str, status: int = 0) -> str:
    """What it prints."""
    result = CliRunner().invoke(app, ["plan", *arguments, "--jobs", "1", "--max-replicas", "8"])
    assert result.exit_code == status, result.output
    return result.output


def test_a_plan_is_a_table_a_page_and_a_file(tmp_path: Path) -> None:
    """A row for each size with and without a host tier; the page has its plots and fetches nothing."""
    trace = write_conversations(tmp_path / "trace.jsonl")
    files = ("--json", str(tmp_path / "plan.json"), "--html", str(tmp_path / "plan.html"))
    sizes = ("--kv-tokens", "2000,20000", "--host-tokens", "100000")
    output = invoke(str(trace), "--ttft-p90", "0.8", "--scale", "20", *sizes, *files)
    assert "p90 TTFT of at most 0.8 s" in output
    for title in ("Fewest replicas", "Least KV", "Fewest replicas with a host tier"):
        assert re.search(rf"{title}: \d of [\d,]+ KV tokens", output)
    content = json.loads((tmp_path / "plan.json").read_text())
    assert [each["size"] for each in content["answers"]] == [
        {"kv_tokens": kv, "host_tokens": host} for kv in (2000, 20000) for host in (0, 100000)
    ]
    page = (tmp_path / "plan.html").read_text()
    assert page.count("<figure>") == 2
    assert not re.findall(r"""(?:src|href)=|url\(|@import|<script""", page)


def test_what_cannot_be_met_is_said(tmp_path: Path) -> None:
    """With the most that was tried; without a host tier there is nothing to say about one."""
    trace = write_sessions(tmp_path / "trace.jsonl")
    output = invoke(str(trace), "--ttft-p90", "0.001", "--rps", "5", "--kv-tokens", "2000", "--host-tokens", "0")
    assert "Fewest replicas: more than 8 of every size that was tried." in output
    assert "with a host tier" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.jsonl"], "cannot read the trace absent.jsonl"),
        (["TRACE", "--rps", "0"], "--rps 0 is too small: use 0.001 or more"),
        (["TRACE"], "does not say when requests came: say how many come a second with --rps"),
        (["TRACE", "--rps", "1", "--kv-tokens", "big"], "--kv-tokens big is not a list of numbers"),
        (["TRACE", "--rps", "1", "--policy", "foo"], "--policy foo does not exist"),
    ],
)
def test_bad_input_is_one_clear_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    """With status 1, and no traceback."""
    trace = write_sessions(tmp_path / "trace.jsonl")
    output = invoke(*[str(trace) if each == "TRACE" else each for each in arguments], "--ttft-p90", "1", status=1)
    assert output.startswith("error: ")
    assert message in output
    assert len(output.splitlines()) == 1

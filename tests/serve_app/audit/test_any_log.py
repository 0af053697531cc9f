"""Logs of any content: an audit ends, counts every line once, and keeps its own laws."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.audit import report_html, report_json, report_text
from serve_app.audit.audit import Audit
from serve_app.audit.checklist import checklist
from serve_app.audit.kinds import KINDS
from serve_app.audit.log_file import Flaw
from serve_app.audit.logged_request import FlawError, read_request
from serve_app.audit.normal_form import normal_form
from tests.serve_app.audit.logs import POLICY, QUESTIONS, TOOLS, Body, audited, chat, of_line, write

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "text", POLICY[:99], "é\r\n "])
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "role", "content", "name", "function", "id", "cache_control", "arguments"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", 7, None])},
        optional={"content": anything, "tool_calls": anything, "cache_control": anything},
    ),
    min_size=1,
    max_size=4,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "model": anything,
        "messages": messages | anything,
        "input": messages | anything,
        "prompt": anything,
        "system": anything,
        "instructions": anything,
        "tools": st.lists(st.sampled_from(TOOLS), max_size=3) | anything,
        "tool_choice": st.sampled_from(["none", "auto", 1]),
        "chat_template_kwargs": anything,
        "documents": anything,
        "thinking": anything,
        "session_id": anything,
    },
)
any_log = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def is_request(body: Body) -> bool:
    """Whether it is taken for one."""
    try:
        return bool(read_request(of_line(body)).body)
    except FlawError:
        return False


def reports(done: Audit) -> tuple[str, str, str]:
    """Text, JSON and page."""
    items = checklist(done, min_tokens=1024, hit_rate_target=0.7)
    console = report_text.make_console()
    with console.capture() as capture:
        for part in (*report_text.as_text(done, KINDS), report_text.checklist_table(items)):
            console.print(part)
    written = orjson.dumps(report_json.as_json(done, KINDS, items)).decode()
    return capture.get(), written, report_html.as_html(done, KINDS, items)


@any_log
@given(st.lists(bodies, max_size=6))
def test_every_line_is_a_request_or_has_a_flaw(tmp_path: Path, log: list[Body]) -> None:
    """Whatever the fields of a body are, and every report can be written."""
    done = audited(tmp_path / "log", log)
    num_flaws = sum(done.flaws.flaw_to_count.values())
    assert done.as_is.num_requests == sum(map(is_request, log))
    assert done.as_is.num_requests + num_flaws == len(log)
    assert all(reports(done))


@any_log
@given(bodies)
def test_the_normal_form_of_any_body_is_one(body: Body) -> None:
    """Once is as good as twice, and the body that was given is not changed."""
    before = orjson.dumps(body)
    fixed = normal_form(body)
    assert normal_form(fixed) is fixed
    assert orjson.dumps(body) == before


def test_totals_obey_their_laws(tmp_path: Path) -> None:
    """Each way to write the log offers its prompts and computes what is not cached."""
    log = [chat(f"{number % 3} {POLICY}", QUESTIONS[number % 4], tools=TOOLS) for number in range(20)]
    done = audited(tmp_path / "log", log)
    for totals in (done.as_is, done.normalised, done.all_fixed):
        assert totals.num_requests == len(log)
        assert totals.offered_tokens == totals.cached_tokens + totals.computed_tokens
        assert 0 <= totals.hit_rate <= 1
    assert sum(each.num_requests for each in done.applications) == len(log)
    assert sum(each.offered_tokens for each in done.applications) == done.as_is.offered_tokens
    assert sum(each.cached_tokens for each in done.applications) == done.as_is.cached_tokens
    assert done.model_to_tokens == {"gpt-4o": done.as_is.offered_tokens}


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd without its size": lambda content: zstandard.ZstdCompressor(write_content_size=False).compress(content),
}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_log_that_was_cut_off_says_so(tmp_path: Path, packing: str, share: float) -> None:
    """What comes before is read; a compressed log must not end in silence where its rest is lost."""
    path = write(tmp_path / "log", [chat(POLICY, f"{QUESTIONS[0]} {number * 7919}") for number in range(500)])
    packed = PACKERS[packing](path.read_bytes())
    done = audited(path, [], content=packed[: int(len(packed) * share)])
    assert done.flaws.flaw_to_count[Flaw.DAMAGED] == 1
    assert done.as_is.num_requests < 500


@pytest.mark.parametrize("packing", PACKERS)
def test_a_whole_log_has_no_flaw(tmp_path: Path, packing: str) -> None:
    """However it is compressed."""
    path = write(tmp_path / "log", [chat(POLICY, f"{QUESTIONS[0]} {number * 7919}") for number in range(500)])
    done = audited(path, [], content=PACKERS[packing](path.read_bytes()))
    assert (done.as_is.num_requests, dict(done.flaws.flaw_to_count)) == (500, {})


@pytest.mark.parametrize(
    ("content", "flaws"),
    [
        (b"", {}),
        (b"\n\n \n", {}),
        (b"Hello, this is no log.\n", {Flaw.NOT_JSON: 1}),
        (b'{"messages": [{"role": "user"\n{"messages": []}\n', {Flaw.NOT_JSON: 1, Flaw.NO_PROMPT: 1}),
        (b"\x00\x01\x02\xff\n\xfe\n", {Flaw.NOT_TEXT: 2}),
        (b'"a string"\n3\nnull\n[]\n', {Flaw.NOT_JSON: 4}),
        (b'{"a": ' * 5000 + b"\n", {Flaw.NOT_JSON: 1}),
        (b'{"prompt": "' + b"x" * 40_000_000 + b'"}\n', {Flaw.TOO_LONG: 1}),
    ],
)
def test_a_file_that_is_no_log_is_counted_by_what_is_wrong(
    tmp_path: Path, content: bytes, flaws: dict[Flaw, int]
) -> None:
    """Line by line; nothing is a request, and the report says so."""
    done = audited(tmp_path / "log", [], content=content)
    assert (done.as_is.num_requests, dict(done.flaws.flaw_to_count)) == (0, flaws)
    text, _, page = reports(done)
    for flaw in flaws:
        assert flaw.value in text
        assert flaw.value in page


def test_a_byte_order_mark_is_no_flaw(tmp_path: Path) -> None:
    """Editors and PowerShell write one at the start of a file."""
    content = b"\xef\xbb\xbf" + orjson.dumps(chat(POLICY, QUESTIONS[0])) + b"\n" + orjson.dumps(chat(POLICY, "Why?"))
    done = audited(tmp_path / "log", [], content=content)
    assert (done.as_is.num_requests, dict(done.flaws.flaw_to_count)) == (2, {})


def test_bytes_that_were_read_are_reported(tmp_path: Path) -> None:
    """Twice the file, as it is read twice: by this, progress ends at all of it."""
    read: list[int] = []
    log: list[Any] = [chat(POLICY, QUESTIONS[0])] * 3
    audited(tmp_path / "log", log, on_read=read.append)
    assert sum(read) == 2 * (tmp_path / "log").stat().st_size

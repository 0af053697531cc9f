"""What an audit prints and writes: text, JSON, page, checklist, suggested layout."""

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from serve_app.audit import report_html, report_json, report_text
from serve_app.audit.audit import Audit, Cost
from serve_app.audit.checklist import Item, ItemVerdict, checklist
from serve_app.audit.kind import KindName
from serve_app.audit.kinds import KINDS
from serve_app.audit.report_text import dollars_text
from serve_app.audit.suggested_layout import Part, suggested_layout
from tests.serve_app.audit.logs import POLICY, QUESTIONS, TOOLS, Body, audited, chat, conversation
from tests.serve_app.audit.test_kinds import CLEAN, KIND_TO_LOG

MIN_TOKENS, TARGET = 1024, 0.7
NASTY = "<script>alert(1)</script> & \"quotes\" 'n' </td>"


class Tags(HTMLParser):
    """All tags and texts of a page; each tag that is opened is closed."""

    VOID = frozenset({"meta", "link", "br", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """It is the one that was opened last."""
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note it."""
        self.texts.append(data)

    def close(self) -> None:
        """Nothing is left open."""
        super().close()
        assert not self._open


def items_of(done: Audit, *, target: float = TARGET) -> list[Item]:
    """The checklist."""
    return checklist(done, min_tokens=MIN_TOKENS, hit_rate_target=target)


def page_of(done: Audit) -> tuple[str, Tags]:
    """The page, and what is in it."""
    page = report_html.as_html(done, KINDS, items_of(done))
    tags = Tags()
    tags.feed(page)
    tags.close()
    return page, tags


def text_of(done: Audit) -> str:
    """The terminal's."""
    console = report_text.make_console()
    with console.capture() as capture:
        for part in report_text.as_text(done, KINDS):
            console.print(part)
    return capture.get()


def json_of(done: Audit) -> dict[str, Any]:
    """As it is read back."""
    content: dict[str, Any] = json.loads(json.dumps(report_json.as_json(done, KINDS, items_of(done))))
    return content


@pytest.mark.parametrize("kind", KindName)
def test_each_kind_is_in_every_report(tmp_path: Path, kind: KindName) -> None:
    """With its title and its remedy, and the page is well formed."""
    done = audited(tmp_path / "log", KIND_TO_LOG[kind])
    title, remedy = next((each.title, each.remedy) for each in KINDS if each.name is kind)
    (found, *_) = [finding for finding in json_of(done)["findings"] if finding["kind"] == kind.value]
    assert (found["title"], found["remedy"]) == (title, remedy)
    _, tags = page_of(done)
    assert {title, f"{title}.", f" {remedy}"} <= set(tags.texts)
    assert re.sub(r"\s+", "", remedy) in re.sub(r"\s+", "", text_of(done))


@pytest.mark.parametrize("name", CLEAN)
def test_a_log_without_findings_says_so(tmp_path: Path, name: str) -> None:
    """And has no remedies."""
    done = audited(tmp_path / "log", CLEAN[name], min_tokens=1)
    assert done.findings == []
    assert "No findings." in text_of(done)
    _, tags = page_of(done)
    assert "None." in tags.texts
    assert not any("How to" in text for text in tags.texts)


def test_names_in_a_log_are_no_html(tmp_path: Path) -> None:
    """Field names come from the log, and so do file names; nothing of them becomes a tag."""
    folder = tmp_path / "<b>&"
    folder.mkdir()
    bodies = [
        chat(POLICY, question, chat_template_kwargs={NASTY: number})
        | {"model": NASTY, "messages": [{"role": "system", "content": POLICY}, {"role": "user", "content": question}]}
        for number, question in enumerate(QUESTIONS)
    ]
    done = audited(folder / "<img src=x>.jsonl", bodies)
    page, tags = page_of(done)
    assert not {"script", "b>", "img"} & set(tags.tags)
    assert "<img" not in page
    assert "&lt;img src=x&gt;.jsonl" in page
    assert any("<img src=x>.jsonl" in text for text in tags.texts)


def test_no_text_of_a_prompt_is_in_a_report(tmp_path: Path) -> None:
    """Of none of the kinds."""
    for kind, bodies in KIND_TO_LOG.items():
        done = audited(tmp_path / kind, bodies)
        for written in (text_of(done), json.dumps(json_of(done)), page_of(done)[0]):
            assert "rule number 7" not in written
            assert QUESTIONS[0][:20] not in written


def test_json_has_all_figures(tmp_path: Path) -> None:
    """Those of the audit, in a form that stays."""
    done = audited(tmp_path / "log", KIND_TO_LOG[KindName.TOOL_ORDER])
    content = json_of(done)
    assert set(content) == {
        *("warmroute", "files", "block_size", "cache_tokens", "as_is", "normal_form", "all_mended", "not_read"),
        *("model_tokens", "applications", "findings", "saved_by_kind", "shared_prefixes", "checklist"),
    }
    assert content["as_is"] == {
        "requests": done.as_is.num_requests,
        "prompt_tokens": done.as_is.offered_tokens,
        "cached_tokens": done.as_is.cached_tokens,
        "hit_rate": done.as_is.hit_rate,
    }
    assert content["files"] == [str(tmp_path / "log")]
    assert content["saved_by_kind"]["tool-order"]["tokens"] == done.kind_to_cost[KindName.TOOL_ORDER].tokens
    (finding,) = [each for each in content["findings"] if each["kind"] == "tool-order"]
    assert finding["example"] == {
        "file": str(tmp_path / "log"),
        "line": finding["example"]["line"],
        "offset": finding["example"]["offset"],
    }
    assert (tmp_path / "log").read_bytes()[finding["example"]["offset"] :].startswith(b'{"model"')


def test_text_counts_lines_that_were_not_read(tmp_path: Path) -> None:
    """With the first few of them by number."""
    lines = b"".join(b"no %d\n" % number for number in range(7)) + b"\xff\n"
    text = text_of(audited(tmp_path / "log", [], content=lines))
    assert "Not read, not a JSON object: 7 lines" in text
    assert "log:5, ...)" in re.sub(r"\s+", " ", text)
    assert "Not read, not UTF-8 text: 1 line (" in text


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (None, ""),
        (Cost(5, None), ""),
        (Cost(5, 0.0), "0.0000"),
        (Cost(5, 0.00123), "0.0012"),
        (Cost(5, 1.5), "1.50"),
        (Cost(5, 12345.678), "12,345.68"),
    ],
)
def test_dollars_have_the_digits_that_matter(cost: Cost | None, text: str) -> None:
    """And are left out where no price is known."""
    assert dollars_text(cost) == text


def test_dollars_are_left_out_where_one_price_is_not_known(tmp_path: Path) -> None:
    """A sum of some would be taken for all."""
    bodies = [body | {"model": ("known", "other")[n % 2]} for n, body in enumerate(KIND_TO_LOG[KindName.TOOL_ORDER])]
    done = audited(tmp_path / "log", bodies, price_saved=lambda model: 1.0 if model == "known" else None)
    assert done.kind_to_cost[KindName.TOOL_ORDER].tokens > 0
    assert done.kind_to_cost[KindName.TOOL_ORDER].dollars is None
    assert "$" not in page_of(done)[0]


def verdicts(items: Sequence[Item]) -> dict[str, ItemVerdict]:
    """By the item's text."""
    return {item.text: item.verdict for item in items}


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        (KindName.VOLATILE, "Static content first"),
        (KindName.LATE_STATIC, "Static content first"),
        (KindName.BREAKPOINTS, "Breakpoints where they are needed, four at most"),
        (KindName.VERSION, "A version for each static block"),
        (KindName.TOOL_ORDER, "Tools, JSON and texts in one form"),
        (KindName.JSON_FORM, "Tools, JSON and texts in one form"),
        (KindName.TRIVIA, "Tools, JSON and texts in one form"),
        (KindName.PARAMETERS, "One setting of what changes tokens"),
        (KindName.HISTORY, "Conversations only appended to"),
        (KindName.SECRET, "Nothing secret or personal in what is shared"),
        (KindName.PERSONAL_DATA, "Nothing secret or personal in what is shared"),
    ],
)
def test_a_finding_opens_its_item_and_no_other(tmp_path: Path, kind: KindName, item: str) -> None:
    """Those of the prefix's length and of the hit rate aside."""
    found = verdicts(items_of(audited(tmp_path / "log", KIND_TO_LOG[kind]), target=0.0))
    assert {text for text, verdict in found.items() if verdict is ItemVerdict.OPEN} <= {
        item,
        "A stable prefix of 1,024 tokens and more",
    }
    assert found[item] is ItemVerdict.OPEN


def test_the_checklist_of_a_clean_log_is_done(tmp_path: Path) -> None:
    """What does not apply says so."""
    done = audited(tmp_path / "log", [chat(POLICY * 3, *conversation(n, 0)) for n in range(4)])
    found = verdicts(checklist(done, min_tokens=100, hit_rate_target=0.0))
    assert found.pop("Breakpoints where they are needed, four at most") is ItemVerdict.NOT_APPLICABLE
    assert set(found.values()) == {ItemVerdict.DONE}
    one = audited(tmp_path / "log", [chat(POLICY, "Hi")])
    assert items_of(one)[0].verdict is ItemVerdict.NOT_APPLICABLE


@pytest.mark.parametrize(("change", "expected"), [(0.0, ItemVerdict.DONE), (0.001, ItemVerdict.OPEN)])
def test_the_hit_rate_is_held_against_the_target(tmp_path: Path, change: float, expected: ItemVerdict) -> None:
    """Equal is enough."""
    done = audited(tmp_path / "log", CLEAN["plain"])
    assert items_of(done, target=done.as_is.hit_rate + change)[-1].verdict is expected


def layout_of(tmp_path: Path, bodies: list[Body]) -> list[Part]:
    """That of the only application."""
    (found,) = audited(tmp_path / "log", bodies).applications
    return suggested_layout(found.application)


def test_a_suggested_layout_has_the_parts_of_the_application(tmp_path: Path) -> None:
    """Tools, system prompt, conversation; a breakpoint after what is static, and one after the conversation."""
    plain = layout_of(tmp_path, [chat(POLICY, question) for question in QUESTIONS])
    assert [(part.name, part.has_breakpoint) for part in plain] == [("system", True), ("conversation", True)]
    assert plain[0].num_chars == len(POLICY)
    with_tools = layout_of(tmp_path, [chat(POLICY, question, tools=TOOLS) for question in QUESTIONS])
    assert [(part.name, part.has_breakpoint) for part in with_tools] == [
        *(("tools", False), ("system", True), ("conversation", True)),
    ]
    assert with_tools[0].what.startswith("4 tools")


def test_a_suggested_layout_moves_what_changes_to_the_end(tmp_path: Path) -> None:
    """What is left of the system prompt are the characters that all requests have."""
    for name, change in (("date or time", "Now: 2026-11-{:02}"), ("name or id", "User: {}")):
        values = ("Ann", "Bo", "Chidi", "Dana") if "{}" in change else range(1, 5)
        texts = [f"{change.format(value)}\n{POLICY}" for value in values]
        parts = layout_of(tmp_path, [chat(text, question) for text, question in zip(texts, QUESTIONS, strict=True)])
        assert [part.name for part in parts] == ["system", "conversation", "last user message"]
        assert parts[-1].what == f"at its end: {name}"
        assert parts[0].num_chars is not None
        assert len(POLICY) <= parts[0].num_chars < min(map(len, texts))
        assert sum(part.has_breakpoint for part in parts) <= 4


def test_pictures_fit_their_frames(tmp_path: Path) -> None:
    """Stretches lie side by side, each below the one before it; bars are no longer than the longest."""
    bodies = [body for kind in (KindName.TOOL_ORDER, KindName.VOLATILE, KindName.TRIVIA) for body in KIND_TO_LOG[kind]]
    done = audited(tmp_path / "log", bodies)
    boxes = report_html._boxes(done)
    assert boxes
    for box in boxes:
        assert 0 <= box.x <= box.x + box.width <= report_html.TREE_WIDTH + 0.2
        assert 0 <= box.shade <= 1
    rows: dict[float, list[tuple[float, float]]] = {}
    for box in boxes:
        rows.setdefault(box.y, []).append((box.x, box.x + box.width))
    for spans in rows.values():
        assert all(end <= start + 0.2 for (_, end), (start, _) in pairwise(spans))
    bars = report_html._bars(done, KINDS)
    assert [bar.tokens for bar in bars] == sorted((bar.tokens for bar in bars), reverse=True)
    assert bars[0].width == report_html.BAR_WIDTH
    assert report_html._boxes(audited(tmp_path / "log", [])) == []

"""Each kind of defect: found where it is, not found where it is not, and fixed."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from serve_app.audit.kind import KindName
from serve_app.audit.kinds import KINDS
from serve_app.audit.kinds.personal_data import personal_data
from tests.serve_app.audit.logs import POLICY, TOOLS, Body, audited, chat, conversation, of_kind

AWS_KEY = "AKIA" + "Z2KLNPQRSTUV3456"
Make = Callable[[int, int, int], Body]


def log(make: Make, *, num_talks: int = 5, num_turns: int = 2) -> list[Body]:
    """Turn by turn; `make` is given the request's number, the conversation and the turn."""
    places = [(talk, turn) for turn in range(num_turns) for talk in range(num_talks)]
    return [make(number, talk, turn) for number, (talk, turn) in enumerate(places)]


def marked(*said: str, tools: bool) -> Body:
    """For Anthropic's API, with breakpoints on the last message, and on the system prompt if the tools are marked."""
    mark = {"cache_control": {"type": "ephemeral"}}
    system = [{"type": "text", "text": POLICY} | (mark if tools else {})]
    talk = [
        {"role": ("user", "assistant")[place % 2], "content": [{"type": "text", "text": text}]}
        for place, text in enumerate(said)
    ]
    talk[-1]["content"][0] |= mark  # type: ignore[index, operator]  # a list of parts
    return {"model": "claude-sonnet-4-5", "max_tokens": 9, "system": system, "messages": talk}


def cut(said: tuple[str, ...], turn: int) -> tuple[str, ...]:
    """Without the oldest exchange, from the third turn on."""
    return said[2:] if turn > 1 else said


KIND_TO_LOG: dict[KindName, list[Body]] = {
    KindName.VOLATILE: log(
        lambda n, talk, turn: chat(f"Now: 2026-11-{n + 1:02} 10:00\n{POLICY}", *conversation(talk, turn))
    ),
    KindName.LATE_STATIC: log(
        lambda _, talk, turn: chat(
            f"Document: {'word of talk ' + str(talk) + ' ' * 1} {'x' * 300}{talk}\n{POLICY}", *conversation(talk, turn)
        )
    ),
    KindName.TRIVIA: log(
        lambda n, talk, turn: chat(POLICY.replace("\n", " \n") if n % 2 else POLICY, *conversation(talk, turn))
    ),
    KindName.VERSION: log(
        lambda n, talk, turn: chat(f"{POLICY}\nVersion: 1.{n // 5}\n{POLICY[::-1]}", *conversation(talk, turn))
    ),
    KindName.TOOL_ORDER: log(
        lambda n, talk, turn: chat(POLICY, *conversation(talk, turn), tools=Random(n).sample(TOOLS, len(TOOLS)))
    ),
    KindName.JSON_FORM: log(
        lambda n, talk, turn: chat(
            POLICY, *conversation(talk, turn), tools=[dict(reversed(each.items())) if n % 2 else each for each in TOOLS]
        )
    ),
    KindName.HISTORY: log(lambda _, talk, turn: chat(POLICY, *cut(conversation(talk, turn), turn)), num_turns=4),
    KindName.PARAMETERS: log(
        lambda n, talk, turn: chat(
            POLICY, *conversation(talk, turn), chat_template_kwargs={"enable_thinking": bool(n % 2)}
        )
    ),
    KindName.SHORT_PREFIX: log(lambda _, talk, turn: chat("Be brief.", *conversation(talk, turn))),
    KindName.BREAKPOINTS: log(lambda _, talk, turn: marked(*conversation(talk, turn), tools=False)),
    KindName.SECRET: log(lambda _, talk, turn: chat(f"{POLICY}\nThe key is {AWS_KEY}.", *conversation(talk, turn))),
    KindName.PERSONAL_DATA: log(
        lambda _, talk, turn: chat(f"{POLICY}\nAsk ann.adler@posteo.de.", *conversation(talk, turn))
    ),
}
CLEAN = {
    "plain": log(lambda _, talk, turn: chat(POLICY * 3, *conversation(talk, turn))),
    "tools": log(lambda _, talk, turn: chat(POLICY * 3, *conversation(talk, turn), tools=TOOLS)),
    "breakpoints": log(lambda _, talk, turn: marked(*conversation(talk, turn), tools=True)),
    "date of the conversation at the end": log(
        lambda _, talk, turn: chat(f"{POLICY * 3}\nNow: 2026-11-{talk + 1:02}", *conversation(talk, turn))
    ),
    "no system prompt": [
        {"messages": [{"role": "user", "content": f"{text} {n}"}]}
        for n, text in enumerate(("Hi", "Why is the sky blue?"))
    ],
}


@pytest.mark.parametrize("kind", KindName)
def test_it_is_found_and_nothing_else_is(tmp_path: Path, kind: KindName) -> None:
    """In a log with that defect; the prefix of these small ones is too short by itself."""
    done = audited(tmp_path / "log", KIND_TO_LOG[kind])
    assert {finding.kind for finding in done.findings} - {KindName.SHORT_PREFIX} == {kind} - {KindName.SHORT_PREFIX}
    assert of_kind(done, kind)


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_where_nothing_is(tmp_path: Path, name: str) -> None:
    """But that the prefix is short."""
    done = audited(tmp_path / "log", CLEAN[name])
    assert {finding.kind for finding in done.findings} <= {KindName.SHORT_PREFIX}


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS if kind.make_fix is not None])
def test_fixing_saves_what_the_finding_says(tmp_path: Path, kind: KindName) -> None:
    """The tokens by which all of its requests together become cheaper, at a dollar a million."""
    done = audited(tmp_path / "log", KIND_TO_LOG[kind])
    cost = done.kind_to_cost[kind]
    assert cost.tokens > 0
    assert cost.dollars == pytest.approx(cost.tokens / 1e6)
    assert done.as_is.computed_tokens - done.all_fixed.computed_tokens >= cost.tokens * 0.9
    assert sum(done.cost(finding).tokens for finding in of_kind(done, kind)) <= cost.tokens  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", KindName)
def test_savings_are_at_most_what_is_computed(tmp_path: Path, kind: KindName) -> None:
    """Of each finding, and of each kind."""
    done = audited(tmp_path / "log", KIND_TO_LOG[kind])
    for cost in (*done.subject_to_cost.values(), *done.kind_to_cost.values()):
        assert 0 <= cost.tokens <= done.as_is.computed_tokens


def test_a_finding_says_where(tmp_path: Path) -> None:
    """Field, offset, and a line that has it; none of the prompt's text."""
    done = audited(tmp_path / "log", KIND_TO_LOG[KindName.VOLATILE])
    (finding,) = of_kind(done, KindName.VOLATILE)
    assert (finding.where, finding.offset) == ("messages[0].content", len("Now: "))
    assert (finding.num_requests, finding.num_in_group) == (9, 10)
    assert finding.example.line == 2
    assert "2026" not in finding.what


@pytest.mark.parametrize("kind", [KindName.SECRET, KindName.PERSONAL_DATA])
def test_what_is_private_is_in_no_finding(tmp_path: Path, kind: KindName) -> None:
    """Only what it is, and where."""
    done = audited(tmp_path / "log", KIND_TO_LOG[kind])
    (finding,) = of_kind(done, kind)
    assert not {AWS_KEY, "ann.adler"} & set(str(finding).split())
    text = KIND_TO_LOG[kind][0]["messages"][0]["content"]
    assert text[finding.offset :].startswith((AWS_KEY, "ann.adler"))


def test_bodies_are_not_changed_by_fixing(tmp_path: Path) -> None:
    """Whoever fixes makes another one."""
    for kind, bodies in KIND_TO_LOG.items():
        before = json.dumps(bodies)
        audited(tmp_path / kind, bodies)
        assert json.dumps(bodies) == before


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Write to ann.adler@posteo.de.", ["e-mail address"]),
        ("Write to support@posteo.de or you@example.com.", []),
        ("Connect to postgres://app:secret@db.internal:5432/x", []),
        ("Card 4111 1111 1111 1111", ["payment card"]),
        ("Order 4111 1111 1111 1112", []),
        ("IBAN DE89370400440532013000", ["IBAN"]),
        ("IBAN DE88370400440532013000", []),
        ("Number 536-90-4399", ["social security number"]),
        ("Call +49 30 901820", ["telephone number"]),
        ("Use 2500 tokens and 64 replicas on port 30000.", []),
    ],
)
def test_personal_data_is_checked_not_guessed(text: str, found: list[str]) -> None:
    """By checksum and numbering plan."""
    assert [what for what, _ in personal_data(text)] == found

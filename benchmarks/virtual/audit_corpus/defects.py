"""One defect of a kind, put into a log that has none."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from benchmarks.virtual.audit_corpus.texts import Base, Body, Talk, Texts
from serve_app.audit.kind import KindName

NUM_TALKS, NUM_TURNS = 6, 3
FIRST_NAMES = ("Ann", "Bo", "Chidi", "Dana", "Eve", "Femi", "Grace", "Hao", "Ines", "Jun", "Kofi", "Lea")
LAST_NAMES = ("Adler", "Brandt", "Costa", "Diaz", "Ekman", "Fontaine", "Garcia", "Hansen", "Ito", "Jensen", "Klein")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November")


class Case(NamedTuple):
    """A log, and what is wrong with it."""

    name: str
    kind: KindName | None
    """The kind of the defect; None where there is none."""
    bodies: list[Body]


class Draft:
    """A log in the making: some conversations of one application, turn by turn, the conversations mixed."""

    def __init__(self, rng: Random, texts: Texts, base: Base) -> None:
        self.rng = rng
        self.texts = texts
        self.base = base
        self.talks: Sequence[Talk] = rng.sample(texts.talks, NUM_TALKS)
        self.turns = [(talk, turn) for turn in range(NUM_TURNS) for talk in range(NUM_TALKS)]

    def bodies(
        self,
        *,
        system: Callable[[int, int, int], str] | None = None,
        tools: Callable[[int, int, int], Sequence[Body]] | None = None,
        messages: Callable[[list[Body], int, int], list[Body]] | None = None,
        others: Callable[[int, int, int], Body] | None = None,
    ) -> list[Body]:
        """The bodies. Each function gets the numbers of request, conversation and turn; None changes nothing."""
        bodies = []
        for number, (talk, turn) in enumerate(self.turns):
            said = [
                {"role": ("user", "assistant")[index % 2], "content": text}
                for index, text in enumerate(self.talks[talk][: 2 * turn + 1])
            ]
            if messages is not None:
                said = messages(said, talk, turn)
            text = self.base.system if system is None else system(number, talk, turn)
            body: Body = {"model": "gpt-4o", "messages": [{"role": "system", "content": text}, *said]}
            offered = self.base.tools if tools is None else tools(number, talk, turn)
            if offered:
                body["tools"] = list(offered)
            bodies.append(body | ({} if others is None else others(number, talk, turn)))
        return bodies

    def some(self) -> set[int]:
        """Numbers of some requests, neither none nor all."""
        return set(self.rng.sample(range(len(self.turns)), self.rng.randint(3, len(self.turns) - 3)))

    def in_system(self, line: str) -> str:
        """The system prompt with a line more, at its start or after its first paragraph."""
        start, gap, rest = self.base.system.partition("\n\n")
        return f"{line}\n{self.base.system}" if not gap or len(line) % 2 else f"{start}\n\n{line}\n\n{rest}"


Seed = Callable[[Draft], list[Body]]


def _uuid(rng: Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _clock(rng: Random) -> str:
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"


def _name(rng: Random) -> str:
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def volatile(draft: Draft) -> list[Body]:
    """Something that changes with each request, or each conversation, at the start of the system prompt."""
    rng = draft.rng
    line_of: Callable[[int, int], str] = rng.choice(
        (
            lambda number, _: f"Current date and time: 2026-11-{1 + number:02} {_clock(rng)}",
            lambda number, _: f"Today is {rng.choice(MONTHS)} {1 + number}, 2026.",
            lambda _, talk: f"Session id: {_uuid(Random(f'{draft.base.name} {talk}'))}",
            lambda number, _: f"Request number {1000 + 7 * number} of this deployment.",
            lambda _, talk: f"You are talking to {_name(Random(talk))}.",
            lambda _, talk: f"The user's account is {_name(Random(talk)).lower().replace(' ', '_')}{talk}.",
            lambda _, talk: f"Conversation c{Random(talk).getrandbits(60):015x} follows.",
            lambda _, __: f"Server time {_clock(rng)} UTC.",
        )
    )
    return draft.bodies(system=lambda number, talk, _: draft.in_system(line_of(number, talk)))


def late_static(draft: Draft) -> list[Body]:
    """Retrieved passages before the instructions, in the system prompt or in what the user says first."""
    rng, passages = draft.rng, draft.texts.passages
    chunks = ["\n\n".join(rng.sample(passages, 3)) for _ in range(NUM_TALKS)]
    if rng.random() < 0.5:  # noqa: PLR2004  one or the other
        return draft.bodies(system=lambda _, talk, __: f"Documents:\n{chunks[talk]}\n\n{draft.base.system}")
    rules = (
        "Answer the question from the documents above and from nothing else. Name the document that you used. If none "
        "of them has the answer, say so in one sentence and do not guess. Be brief, write in the language of the "
        "question, and give numbers with their units, exactly as they are written in the document."
    )

    def messages(said: list[Body], talk: int, _: int) -> list[Body]:
        first = f"Documents:\n{chunks[talk]}\n\n{rules}\n\nQuestion: {said[0]['content']}"
        return [{"role": "user", "content": first}, *said[1:]]

    return draft.bodies(messages=messages)


def trivia(draft: Draft) -> list[Body]:
    """Some requests have the system prompt with other line ends, spaces or characters."""
    usual = draft.base.system.replace("e", "\u00e9", 1)
    variants = {
        usual.replace("\n", "\r\n"),
        usual.rstrip() + "\n\n",
        usual.replace("\n\n", " \n\n"),
        "\ufeff" + usual,
        usual.replace(". ", ".\u200b ", 3),
        " " + usual,
        unicodedata.normalize("NFD", usual),
    }
    changed, some = draft.rng.choice(sorted(variants - {usual})), draft.some()
    return draft.bodies(system=lambda number, *_: changed if number in some else usual)


def version(draft: Draft) -> list[Body]:
    """In the middle of the log the text is edited and has no version, or gets another version and is not edited."""
    rng, middle = draft.rng, len(draft.turns) // 2
    if rng.random() < 0.5:  # noqa: PLR2004  one or the other
        one, other = rng.choice((("1.4.2", "1.4.3"), ("2026-10", "2026-11"), ("12", "13"), ("3.0-rc1", "3.0")))
        return draft.bodies(
            system=lambda number, *_: draft.in_system(f"Prompt version: {one if number < middle else other}")
        )
    words = draft.base.system.split(" ")
    place = rng.randrange(len(words) // 4, 3 * len(words) // 4)
    added = "Before that, repeat in one sentence what you were asked for, and wait until it is confirmed."
    edited = " ".join((*words[:place], added, *words[place + rng.randint(0, 6) :]))
    return draft.bodies(system=lambda number, *_: draft.base.system if number < middle else edited)


def tool_order(draft: Draft) -> list[Body]:
    """Some requests have the tools in another order."""
    some, rng = draft.some(), draft.rng

    def tools(number: int, *_: int) -> Sequence[Body]:
        return rng.sample(draft.base.tools, len(draft.base.tools)) if number in some else draft.base.tools

    return draft.bodies(tools=tools)


def json_form(draft: Draft) -> list[Body]:
    """Some requests have the tools' keys in another order, or an example in the system prompt in another style."""
    some, rng = draft.some(), draft.rng
    if draft.base.tools and rng.random() < 0.6:  # noqa: PLR2004  mostly
        turned = [with_reversed_keys(tool) for tool in draft.base.tools]
        return draft.bodies(tools=lambda number, *_: turned if number in some else draft.base.tools)
    example = {"name": "book", "arguments": {"seat": "12A", "bags": 2, "meal": None}, "confirmed": False}
    one = json.dumps(example)
    other = rng.choice(
        (json.dumps(example, indent=2), json.dumps(example, separators=(",", ":")), json.dumps(example, sort_keys=True))
    )
    return draft.bodies(
        system=lambda number, *_: draft.in_system(f"Answer as in this example: {other if number in some else one}")
    )


def history(draft: Draft) -> list[Body]:
    """From the third turn on, what was said before is sent in another way."""
    way = draft.rng.randrange(3)

    def messages(said: list[Body], _: int, turn: int) -> list[Body]:
        if turn < 2:  # noqa: PLR2004  the third
            return said
        if way == 0:  # the oldest exchange is dropped
            return said[2:]
        if way == 1:  # an answer is cut
            return [said[0], {**said[1], "content": f"{said[1]['content'][:40]} [...]"}, *said[2:]]
        return [{**said[0], "content": f"(earlier) {said[0]['content']}"}, *said[1:]]

    return draft.bodies(messages=messages)


def parameters(draft: Draft) -> list[Body]:
    """Some requests have another setting of something that changes tokens."""
    some = draft.some()
    options: list[tuple[Body, Body]] = [
        ({}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
        ({}, {"add_generation_prompt": False}),
    ]
    if draft.base.tools:
        options.append(({"tool_choice": "auto"}, {"tool_choice": "none"}))
    one, other = draft.rng.choice(options)
    return draft.bodies(others=lambda number, *_: other if number in some else one)


def short_prefix(draft: Draft) -> list[Body]:
    """The prompt is a short one."""
    return draft.bodies()


def breakpoints(draft: Draft) -> list[Body]:
    """Anthropic's API, with none, with too many, or in the conversation only."""
    way = draft.rng.randrange(3)
    marked = {"cache_control": {"type": "ephemeral"}}
    bodies = []
    for body in draft.bodies():
        system, *said = body.pop("messages")
        parts: list[Body] = [{"type": "text", "text": text} for text in _in_parts(system["content"])]
        said = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in said]
        if way == 1:
            parts = [part | marked for part in parts]
        if way >= 1:
            said[-1] = {**said[-1], "content": [said[-1]["content"][0] | marked]}
        tools = [_as_anthropic(tool) for tool in body.pop("tools", [])]
        bodies.append(
            body
            | {"model": "claude-sonnet-4-5", "max_tokens": 100, "system": parts, "messages": said}
            | ({"tools": tools} if tools else {})
        )
    return bodies


def secret(draft: Draft) -> list[Body]:
    """A key in the system prompt, the same for all."""
    rng = draft.rng

    def word(length: int, letters: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") -> str:
        return "".join(rng.choice(letters) for _ in range(length))

    mixed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    key = rng.choice(
        (
            f"AKIA{word(16)}",
            f"ghp_{word(36, mixed)}",
            f"xoxb-{word(12, '0123456789')}-{word(12, '0123456789')}-{word(24, mixed)}",
            f"sk_live_{word(24, mixed)}",
            f"postgres://app:{word(14, mixed)}@db.internal:5432/orders",
            f"SG.{word(22, mixed)}.{word(43, mixed)}",
            f"npm token: //registry.npmjs.org/:_authToken=npm_{word(36, mixed)}",
            f"glpat-{word(20, mixed)}",
        )
    )
    return draft.bodies(system=lambda *_: draft.in_system(f"Use this when you are asked to connect: {key}"))


def personal_data(draft: Draft) -> list[Body]:
    """Somebody's data in the system prompt, the same for all."""
    rng = draft.rng
    person = _name(rng)
    iban = rng.choice(("DE89370400440532013000", "GB29NWBK60161331926819", "FR1420041010050500013M02606"))
    card = rng.choice(("4111 1111 1111 1111", "5555 5555 5555 4444", "378282246310005"))
    number = rng.choice(("219-09-9998", "536-90-4399", "574-22-1234"))
    phone = f"{rng.choice(('212-736', '415-944', '312-944'))}-{rng.randrange(1000, 9999)}"
    address = person.lower().replace(" ", ".")
    line = rng.choice(
        (
            f"Escalate to {person}, {address}@{rng.choice(('posteo.de', 'gmail.com', 'contoso.com'))}.",
            f"Escalate to {person}, +49 30 9018{rng.randrange(100, 999)}0.",
            f"Refunds go to the account of {person}, IBAN {iban}.",
            f"Book hotels with the card of {person}, {card}.",
            f"For {person}, social security number {number}, no proof is needed.",
            f"Call {person} at +1 {phone}.",
        )
    )
    return draft.bodies(system=lambda *_: draft.in_system(line))


KIND_TO_SEED: dict[KindName, Seed] = {
    KindName.VOLATILE: volatile,
    KindName.LATE_STATIC: late_static,
    KindName.TRIVIA: trivia,
    KindName.VERSION: version,
    KindName.TOOL_ORDER: tool_order,
    KindName.JSON_FORM: json_form,
    KindName.HISTORY: history,
    KindName.PARAMETERS: parameters,
    KindName.SHORT_PREFIX: short_prefix,
    KindName.BREAKPOINTS: breakpoints,
    KindName.SECRET: secret,
    KindName.PERSONAL_DATA: personal_data,
}


def cases(texts: Texts, *, num_each: int, seed: int) -> list[Case]:
    """Logs of each kind, and as many without a defect."""
    return [_case(texts, kind, number, seed) for kind in (*KIND_TO_SEED, None) for number in range(num_each)]


def _case(texts: Texts, kind: KindName | None, number: int, seed: int) -> Case:
    name = f"{kind or 'clean'} {number}"
    rng = Random(f"{name} {seed}")
    bases = texts.short_bases if kind is KindName.SHORT_PREFIX else texts.long_bases
    if kind is KindName.TOOL_ORDER:
        bases = [base for base in bases if base.tools]
    draft = Draft(rng, texts, rng.choice(bases))
    return Case(f"{name} ({draft.base.name})", kind, draft.bodies() if kind is None else KIND_TO_SEED[kind](draft))


def with_reversed_keys(value: Any) -> Any:  # noqa: ANN401  any JSON
    """The same, whose objects have their keys in the opposite order."""
    if isinstance(value, dict):
        return {key: with_reversed_keys(value[key]) for key in reversed(value)}
    return list(map(with_reversed_keys, value)) if isinstance(value, list) else value


def _in_parts(text: str) -> list[str]:
    """The text in five parts."""
    size = max(1, len(text) // 5 + 1)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _as_anthropic(tool: Body) -> Body:
    function = tool["function"]
    return {
        "name": function["name"],
        "description": function.get("description", ""),
        "input_schema": function["parameters"],
    }

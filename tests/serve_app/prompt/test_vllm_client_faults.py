"""Whose fault an error is: a client's until the engine has the request, and then the server's."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest

WORDS = "a client's own words"
OF_DATA = [
    KeyError(WORDS),
    IndexError(WORDS),
    AttributeError(WORDS),
    RecursionError(WORDS),
    AssertionError(WORDS),
    OverflowError(WORDS),
    NotImplementedError(WORDS),
    TypeError(WORDS),
    UnicodeEncodeError("utf-8", WORDS, 0, 1, "surrogates not allowed"),
    jinja2.TemplateError(WORDS),
]
OF_THE_SERVER = [
    OSError(WORDS),
    MemoryError(WORDS),
    RuntimeError(WORDS),
    asyncio.CancelledError(),
    Exception(WORDS),
]
pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own


class Engine:
    """Does what AsyncLLM does with a request, as far as that concerns us; each step may fail."""

    def __init__(self, *, has_second_tier: bool = False) -> None:
        self.error: BaseException | None = None
        self.input_processor = SimpleNamespace(process_inputs=self._fail)
        self.vllm_config = SimpleNamespace(kv_transfer_config=object() if has_second_tier else None)
        self.aborted: list[str] = []
        self.outputs: list[Any] = []
        self.is_closed = False

    def _fail(self, *_: object, **__: object) -> str:
        if self.error is not None:
            raise self.error
        return "done"

    async def _add_request(self, *_: object) -> None:
        self._fail()

    async def abort(self, request_id: str, *, internal: bool) -> None:
        """Forget a request."""
        assert internal
        self.aborted.append(request_id)

    async def generate(self, _prompt: object, _params: object, _request_id: str) -> AsyncIterator[Any]:
        """The outputs, and perhaps an error."""
        try:
            for each in self.outputs:
                yield each
            self._fail()
        finally:
            self.is_closed = True


class Serving:
    """A serving class like vLLM's, whose every method may fail."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _later(self, *_: object) -> str:
        return self._engine._fail()

    def _now(self, *_: object) -> str:
        return self._engine._fail()

    render_chat = render_completion = preprocess_chat = preprocess_completion = _later
    _make_request = create_messages = count_tokens = _later
    _make_request_with_harmony = to_chat_completion_request = _now

    def create_error_response(self, error: Exception) -> Exception:
        """The answer to an error."""
        return error


def blamed(engine: Engine) -> dict[str, Serving]:
    """What is around it, from now on as in a replica."""
    from serve_app.prompt.vllm_client_faults import blame_clients
    from serve_app.prompt.vllm_hooks import READERS

    servings = {name: Serving(engine) for name in READERS}
    app: Any = SimpleNamespace(state=SimpleNamespace(**servings))
    blame_clients(app, engine)
    return servings


def steps(engine: Engine) -> dict[str, Callable[[], Any]]:
    """All that is done with a body before the engine has the request."""
    from serve_app.prompt.vllm_hooks import READERS

    servings = blamed(engine)
    named: dict[str, Callable[[], Any]] = {
        f"{owner}.{name}": getattr(servings[owner], name) for owner, names in READERS.items() for name in names
    }
    sent = SimpleNamespace(request_id="r")
    return named | {
        "process_inputs": engine.input_processor.process_inputs,
        "_add_request": lambda: engine._add_request(sent, None, None, 0, None),
    }


async def result(step: Callable[[], Any]) -> Any:
    """Now or later."""
    value = step()
    return await value if asyncio.iscoroutine(value) else value


@pytest.mark.parametrize("error", OF_DATA, ids=repr)
async def test_what_a_body_makes_fail_is_the_clients(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """In every step; the log does not say in whose words."""
    from vllm.exceptions import VLLMValidationError

    engine = Engine()
    engine.error = error
    caplog.set_level(logging.INFO)
    for step in steps(engine).values():
        with pytest.raises(VLLMValidationError, match="cannot be read"):
            await result(step)
    assert WORDS not in caplog.text
    assert isinstance(error, ValueError) or type(error).__name__ in caplog.text


@pytest.mark.parametrize("error", OF_THE_SERVER, ids=repr)
async def test_what_the_machine_makes_fail_is_the_servers(error: BaseException) -> None:
    """In the same steps."""
    engine = Engine()
    engine.error = error
    for step in steps(engine).values():
        with pytest.raises(type(error)) as raised:
            await result(step)
        assert raised.value is error


async def test_what_works_works() -> None:
    """With what it returns."""
    engine = Engine()
    results = {name: await result(step) for name, step in steps(engine).items()}
    assert set(results.values()) == {"done", None}
    assert engine.aborted == []


async def test_a_long_reason_is_cut() -> None:
    """It may be the client's prompt."""
    from vllm.exceptions import VLLMValidationError

    from serve_app.prompt.vllm_client_faults import MAX_REASON_CHARS, of_the_client

    with pytest.raises(VLLMValidationError) as raised, of_the_client():
        raise ValueError("x" * 10_000)
    assert len(str(raised.value)) < MAX_REASON_CHARS + 100


@pytest.mark.parametrize("error", [OF_DATA[0], OF_THE_SERVER[0]], ids=repr)
@pytest.mark.parametrize(("parent", "forgotten"), [(None, "r"), (SimpleNamespace(request_id="all"), "all")])
async def test_what_could_not_be_sent_is_forgotten(error: Exception, parent: Any, forgotten: str) -> None:
    """The one choice, or all of them; vLLM would keep it for good, as if the engine had it."""
    engine = Engine()
    blamed(engine)
    engine.error = error
    with pytest.raises(Exception) as raised:  # noqa: PT011  the client's or the server's
        await engine._add_request(SimpleNamespace(request_id="r"), None, parent)
    assert error in (raised.value, raised.value.__cause__)
    assert engine.aborted == [forgotten]


def output(reason: str | None) -> Any:
    """An engine's output."""
    return SimpleNamespace(outputs=[SimpleNamespace(finish_reason=reason)])


async def generated(engine: Engine, structure: object) -> int:
    """The number of outputs."""
    stream = engine.generate(None, SimpleNamespace(structured_outputs=structure), "r")
    return len([each async for each in stream])


@pytest.mark.parametrize("error", OF_DATA[:2], ids=repr)
@pytest.mark.parametrize("structure", [None, "a structure"])
async def test_an_error_of_the_engine_stays_the_servers(error: Exception, structure: object) -> None:
    """Whatever kind it is of, once it computes."""
    engine = Engine()
    blamed(engine)
    engine.error = error
    with pytest.raises(type(error)) as raised:
        await generated(engine, structure)
    assert raised.value is error


@pytest.mark.parametrize("has_second_tier", [False, True])
@pytest.mark.parametrize("structure", [None, "a structure"])
async def test_a_structure_that_leads_nowhere_is_the_clients(structure: object, *, has_second_tier: bool) -> None:
    """Where nothing else can have been it."""
    from vllm.exceptions import VLLMValidationError

    engine = Engine(has_second_tier=has_second_tier)
    blamed(engine)
    engine.outputs = [output(None), output("error")]
    if structure is None or has_second_tier:
        assert await generated(engine, structure) == 2
    else:
        with pytest.raises(VLLMValidationError, match="structure"):
            await generated(engine, structure)
    assert engine.is_closed


async def test_a_structured_answer_is_left_alone_and_ends_with_its_reader() -> None:
    """A client that leaves takes it out of the engine."""
    engine = Engine()
    blamed(engine)
    engine.outputs = [output(None), output(None), output("stop")]
    assert await generated(engine, "a structure") == 3
    engine.is_closed = False
    stream = engine.generate(None, SimpleNamespace(structured_outputs="a structure"), "r")
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert engine.is_closed


async def test_the_messages_api_answers_before_it_logs() -> None:
    """Its route would log the error's words; errors of the server it may log."""
    from vllm.exceptions import VLLMClientError

    engine = Engine()
    serving = blamed(engine)["anthropic_serving_messages"]
    engine.error = VLLMClientError(WORDS)
    assert await serving.create_messages() == await serving.count_tokens() == engine.error  # type: ignore[comparison-overlap]
    engine.error = OSError(WORDS)
    with pytest.raises(OSError, match=WORDS):
        await serving.create_messages()

"""What an engine's client reads of its answers."""

import itertools
from collections.abc import Callable

import httpx
import pytest

from benchmarks.gpu import engine as engine_module
from benchmarks.gpu.engine import Engine, EngineAnswer, KvCache
from benchmarks.harness.errors import MeasurementError
from tests.benchmarks.gpu.fake_engine import BLOCK_SIZE, FakeEngine

Respond = Callable[[httpx.Request], httpx.Response]


def engine_of(respond: Respond) -> Engine:
    """Its clock goes on by a second whenever it is read."""
    client = httpx.AsyncClient(base_url="http://engine", transport=httpx.MockTransport(respond))
    return Engine(client, clock=map(float, itertools.count()).__next__)


def streaming(text: str) -> Respond:
    """Whatever is asked."""
    return lambda _: httpx.Response(200, text=text)


async def test_an_answer_has_its_times_and_what_was_cached() -> None:
    """The first token is told when it comes, once."""
    told: list[None] = []
    engine = engine_of(FakeEngine().respond)
    cold, warm = [
        await engine.ask(range(10), answer_tokens=2, on_first_token=lambda: told.append(None)) for _ in range(2)
    ]
    assert cold == EngineAnswer(10, 0, first_token_s=1, duration_s=2)
    assert warm.cached_tokens == 8
    assert len(told) == 2


async def test_an_engine_that_does_not_count_has_cached_nothing() -> None:
    """As older releases answer where there is nothing to count."""
    usage = '{"choices": [{"text": "x"}]}\n\ndata: {"choices": [], "usage": {"prompt_tokens": 3}}'
    answer = await engine_of(streaming(f"data: {usage}\n\n")).ask([1, 2, 3], answer_tokens=1)
    assert answer.cached_tokens == 0


@pytest.mark.parametrize(
    ("respond", "message"),
    [
        (lambda _: httpx.Response(400, text="too long"), "answered 400: too long"),
        (streaming('data: {"choices": [{"text": "x"}]}\n\n'), "before its time"),
        (streaming("data: [DONE]\n\n"), "before its time"),
        (streaming('data: {"error": {"message": "dead"}}\n\n'), "broke off: .*dead"),
    ],
)
async def test_half_an_answer_is_an_error(respond: Respond, message: str) -> None:
    """So is none."""
    with pytest.raises(MeasurementError, match=message):
        await engine_of(respond).ask([1], answer_tokens=1)


async def test_a_broken_connection_is_an_error() -> None:
    """Named by its kind."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("gone", request=request)

    with pytest.raises(MeasurementError, match="ReadError"):
        await engine_of(fail).ask([1], answer_tokens=1)


async def test_a_cache_in_use_is_reset_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM says that it could not; then it is asked again."""
    monkeypatch.setattr(engine_module, "POLL_S", 0)
    fake = FakeEngine(refused_resets=2)
    await engine_of(fake.respond).reset_cache()
    assert fake.num_resets == 3
    with pytest.raises(MeasurementError, match="still in use after 30 s"):
        await engine_of(FakeEngine(refused_resets=100).respond).reset_cache()


async def test_an_engine_that_cannot_be_reset_is_an_error() -> None:
    """With what it lacks."""
    with pytest.raises(MeasurementError, match=r"\(404\): start it with VLLM_SERVER_DEV_MODE=1"):
        await engine_of(lambda _: httpx.Response(404)).reset_cache()


async def test_the_cache_size_is_read_from_the_metrics() -> None:
    """In tokens."""
    assert await engine_of(FakeEngine().respond).kv_cache() == KvCache(400, BLOCK_SIZE)
    with pytest.raises(MeasurementError, match="size of its KV cache"):
        await engine_of(streaming("other 1.0\n")).kv_cache()

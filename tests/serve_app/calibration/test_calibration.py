"""From measured times to the engine model's constants."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from io import StringIO
from random import Random
from typing import Any

import httpx
import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from serve_app.calibration.bystanders import TIMEOUT_S, Bystanders
from serve_app.calibration.command import constants_yaml, context_lengths, line_table
from serve_app.calibration.errors import CalibrationError, FitError
from serve_app.calibration.fit import Contexts, DecodeContexts, Fit, MeasuredPoint, fit_constants
from serve_app.calibration.measured_replica import choose_replica, find_replica
from serve_app.calibration.probe import ProbedModel, ReplicaProbe
from serve_app.calibration.streams import StreamProgress, seconds_a_token
from serve_app.messages.snapshot import EngineSnapshot, RouterSnapshot
from serve_app.settings.schema import EngineModelSettings
from tests.snapshots import replica, router

LENGTHS = (256, 512, 1024, 1536, 2048)
STREAMS = (1, 2, 4, 8, 16)
STEP_S, RATE, DECODE_S, OUTSIDE_S = 0.008, 10_000, 0.000_15, 0.004
DECODE_CONTEXT_S, SHORT_TOKENS = 40e-9, 104
ATTENTION_S, NEW_TOKENS, CONTEXTS = 5e-8, 256, (2048, 4096, 6144, 8192)


def prefill(noise: Callable[[], float] = lambda: 1.0) -> list[MeasuredPoint]:
    """Times to first tokens of an engine with the default constants, each times `noise()`."""
    return [MeasuredPoint(tokens, (OUTSIDE_S + STEP_S + tokens / RATE) * noise()) for tokens in LENGTHS]


def decode(noise: Callable[[], float] = lambda: 1.0) -> list[MeasuredPoint]:
    """Times between its tokens."""
    return [MeasuredPoint(streams, (STEP_S + DECODE_S * streams) * noise()) for streams in STREAMS]


def with_attention(points: list[MeasuredPoint]) -> list[MeasuredPoint]:
    """The same prompts, where a token takes longer the more tokens are before it."""
    return [MeasuredPoint(each.x, each.seconds + ATTENTION_S * each.x**2 / 2) for each in points]


def contexts(noise: Callable[[], float] = lambda: 1.0, *, attention_s: float = ATTENTION_S) -> Contexts:
    """Times to first tokens of such an engine after cached contexts."""
    own_s = OUTSIDE_S + STEP_S + NEW_TOKENS / RATE + attention_s * NEW_TOKENS**2 / 2
    times = [(own_s + attention_s * NEW_TOKENS * tokens) * noise() for tokens in CONTEXTS]
    return Contexts(NEW_TOKENS, [MeasuredPoint(*each) for each in zip(CONTEXTS, times, strict=True)])


def with_contexts(points: list[MeasuredPoint]) -> list[MeasuredPoint]:
    """The same streams, where each token of their contexts takes a little."""
    return [MeasuredPoint(each.x, each.seconds + DECODE_CONTEXT_S * SHORT_TOKENS * each.x) for each in points]


def decode_contexts(
    noise: Callable[[], float] = lambda: 1.0, *, decode_context_s: float = DECODE_CONTEXT_S
) -> DecodeContexts:
    """Times between the tokens of one of them after long contexts."""
    tokens = [4 * each for each in CONTEXTS]
    return DecodeContexts(
        SHORT_TOKENS, [MeasuredPoint(each, (STEP_S + DECODE_S + decode_context_s * each) * noise()) for each in tokens]
    )


def assert_constants(fit: Fit, *, rel: float) -> None:
    """Those of the engine, about."""
    assert fit.step_s == pytest.approx(STEP_S, rel=rel)
    assert fit.prefill_tokens_per_s == pytest.approx(RATE, rel=rel)
    assert fit.decode_s == pytest.approx(DECODE_S, rel=5 * rel)  # little beside a step


def test_exact_times_give_the_exact_constants() -> None:
    """Nothing is left over."""
    fit = fit_constants(prefill(), decode())
    assert_constants(fit, rel=1e-9)
    assert fit.outside_s == pytest.approx(OUTSIDE_S)
    assert fit.prefill.error == pytest.approx(0, abs=1e-12)


@given(st.integers())
def test_noisy_times_give_about_the_constants(seed: int) -> None:
    """Half a percent up or down, each: of the long times, which weigh most, that is more than of their mean."""
    rng = Random(seed)
    fit = fit_constants(prefill(lambda: rng.uniform(0.995, 1.005)), decode(lambda: rng.uniform(0.995, 1.005)))
    assert_constants(fit, rel=0.03)
    assert 0 < fit.prefill.error < 0.0075


@given(st.integers())
def test_attention_is_told_from_what_tokens_take(seed: int) -> None:
    """By the contexts; the cold prompts are a line again without it."""
    rng = Random(seed)
    fit = fit_constants(with_attention(prefill()), decode(), contexts(lambda: rng.uniform(0.995, 1.005)))
    assert fit.attention_s == pytest.approx(ATTENTION_S, rel=0.05)
    assert_constants(fit, rel=0.05)
    exact = fit_constants(with_attention(prefill()), decode(), contexts())
    assert exact.attention_s == pytest.approx(ATTENTION_S)
    assert_constants(exact, rel=1e-9)
    assert exact.prefill.error == pytest.approx(0, abs=1e-12)


def test_contexts_that_cost_nothing_cost_nothing() -> None:
    """Not less, though noise says so; and nothing is known of those that were not measured."""
    assert fit_constants(prefill(), decode(), contexts(attention_s=-1e-9)).attention_s == 0
    assert fit_constants(prefill(), decode()).attention_s == 0


@given(st.integers())
def test_contexts_of_what_is_decoded_are_told_from_the_number_of_streams(seed: int) -> None:
    """A fifth of a percent up or down, each; 32,768 tokens add 1.3 ms to 8. Exact times give the exact constants."""
    rng = Random(seed)
    noisy = decode_contexts(lambda: rng.uniform(0.998, 1.002))
    fit = fit_constants(prefill(), with_contexts(decode()), decode_contexts=noisy)
    assert fit.decode_context_s == pytest.approx(DECODE_CONTEXT_S, rel=0.05)
    assert_constants(fit, rel=0.01)
    exact = fit_constants(prefill(), with_contexts(decode()), decode_contexts=decode_contexts())
    assert exact.decode_context_s == pytest.approx(DECODE_CONTEXT_S)
    assert_constants(exact, rel=1e-9)


def test_contexts_that_cost_nothing_when_decoded_cost_nothing() -> None:
    """Not less, though noise says so; and nothing is known of those that were not measured."""
    cheaper = decode_contexts(decode_context_s=-1e-9)
    assert fit_constants(prefill(), decode(), decode_contexts=cheaper).decode_context_s == 0
    assert fit_constants(prefill(), decode()).decode_context_s == 0


def test_times_after_long_contexts_that_are_no_line_are_refused() -> None:
    """Something else happened, as to one of them here."""
    points = [MeasuredPoint(each.x, each.seconds * (1 + (each.x == 16384))) for each in decode_contexts().points]
    with pytest.raises(FitError, match="the times between tokens after long contexts are no line"):
        fit_constants(prefill(), decode(), decode_contexts=DecodeContexts(SHORT_TOKENS, points))


def test_contexts_are_whole_blocks_within_the_longest() -> None:
    """None for a model that is too short for them, or for the answers that are to come after them."""
    assert context_lengths(1000, shortest=128) == [128, 384, 640, 896]
    assert context_lengths(1000, shortest=192) == []
    assert context_lengths(8192) == [2048, 4096, 6144, 8192]
    assert context_lengths(1000) == [128, 384, 640, 896]
    assert context_lengths(511) == []
    assert context_lengths(-5) == []


def test_sequences_that_cost_nothing_cost_nothing() -> None:
    """Not less, though noise says so."""
    fit = fit_constants(prefill(), [MeasuredPoint(streams, 0.008 - 0.000_01 * streams) for streams in STREAMS])
    assert fit.decode_s == 0


def test_a_prompt_takes_a_step_at_least() -> None:
    """Twice as long a token at 2,048 tokens as at none: a line of its own would start 14 ms before the request."""
    bent = [MeasuredPoint(tokens, STEP_S + tokens / RATE * (1 + tokens / 2048)) for tokens in LENGTHS]
    fit = fit_constants(bent, decode())
    assert fit.outside_s == 0
    assert fit.prefill.at(0) == pytest.approx(STEP_S)
    assert RATE / 2 < fit.prefill_tokens_per_s < RATE


@pytest.mark.parametrize(
    ("prefill", "decode", "message"),
    [
        (prefill()[:2], decode(), "3 prompts of different lengths are needed"),
        (prefill(), decode()[:1] * 5, "3 different numbers of streams are needed"),
        (
            [MeasuredPoint(each.x, 0.05) for each in prefill()],
            decode(),
            r"hardly took longer \(256: 50.0 ms, .*--longest",
        ),
        (prefill(), [MeasuredPoint(n, 0.02 / n) for n in STREAMS], "more streams had less time between tokens"),
        (prefill(), [MeasuredPoint(n, 0.001 * n**1.1) for n in STREAMS], "a step without work would take -"),
        ([MeasuredPoint(n, 0.1 + (n == 1024)) for n in LENGTHS], decode(), "hardly"),
        (
            [MeasuredPoint(n, n / RATE + (n > 1100)) for n in LENGTHS],
            decode(),
            "the times to the first token are no line",
        ),
        (
            prefill(),
            [MeasuredPoint(n, 0.01 + 0.02 * (n in {2, 16})) for n in STREAMS],
            "the times between tokens are no line",
        ),
    ],
)
def test_nonsense_is_refused_in_a_sentence(
    prefill: list[MeasuredPoint], decode: list[MeasuredPoint], message: str
) -> None:
    """With the times, and what to do."""
    with pytest.raises(FitError, match=message):
        fit_constants(prefill, decode)


def test_the_constants_are_settings() -> None:
    """What is printed can be pasted."""
    fit = fit_constants(with_attention(prefill()), with_contexts(decode()), contexts(), decode_contexts())
    settings = yaml.safe_load(constants_yaml(fit))
    model = EngineModelSettings.model_validate(settings["engine_model"])
    assert model == EngineModelSettings(
        step_s=STEP_S,
        prefill_tokens_per_s=RATE,
        attention_s=ATTENTION_S,
        decode_s=DECODE_S,
        decode_context_s=DECODE_CONTEXT_S,
    )


def test_residuals_are_shown() -> None:
    """The third point is 21 ms above the line."""
    points = [MeasuredPoint(1, 0.1), MeasuredPoint(2, 0.2), MeasuredPoint(3, 0.33), MeasuredPoint(4, 0.4)]
    written = StringIO()
    Console(width=80, file=written).print(line_table("Times", "streams", fit_constants(points, decode()).prefill))
    assert "21.00" in written.getvalue()


def test_time_between_tokens_counts_tokens_not_chunks() -> None:
    """The second stream starts at 2 s and gets two tokens a chunk; until 5 s both are decoded."""
    first = [StreamProgress(float(number), number) for number in range(1, 8)]
    second = [StreamProgress(2.0, 1), StreamProgress(4.0, 3), StreamProgress(5.0, 5)]
    assert seconds_a_token([first]) == 1
    assert seconds_a_token([first, second]) == pytest.approx((1 + 0.75) / 2)


def test_streams_that_never_overlap_tell_nothing() -> None:
    """Nor does one of a single token."""
    early, late = [StreamProgress(1.0, 1), StreamProgress(2.0, 2)], [StreamProgress(3.0, 1), StreamProgress(4.0, 2)]
    assert seconds_a_token([early, late]) is None
    assert seconds_a_token([early[:1]]) is None


class FakeReplica:
    """A second passes with each chunk that it sends; a prompt's token that is not cached takes a millisecond.

    Args:
        context_s: added to a chunk for each token before it.

    """

    def __init__(self, *, context_s: float = 0.0) -> None:
        self.now_s = 0.0
        self._context_s = context_s
        self.bodies: list[dict[str, Any]] = []
        self.forgets = False

    def probe(self) -> ReplicaProbe:
        """Of this replica."""
        client = httpx.AsyncClient(base_url="http://replica", transport=httpx.MockTransport(self._answer))
        return ReplicaProbe(client, rng=Random(1), clock=lambda: self.now_s)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "demo", "max_model_len": 4096}]})
        body = orjson.loads(request.content)
        cached_tokens = self._cached_tokens(body["prompt"])
        self.bodies.append(body)
        if len(body["prompt"]) > 4095:
            return httpx.Response(400, text="too long")
        return httpx.Response(200, content=self._chunks(len(body["prompt"]), cached_tokens, body["max_tokens"]))

    def _cached_tokens(self, prompt: list[int]) -> int:
        earlier = [body["prompt"] for body in self.bodies]
        return max((len(each) for each in earlier if not self.forgets and each == prompt[: len(each)]), default=0)

    async def _chunks(self, prompt_tokens: int, cached_tokens: int, answer_tokens: int) -> AsyncIterator[bytes]:
        self.now_s += (prompt_tokens - cached_tokens) / 1000
        for number in range(answer_tokens):
            await asyncio.sleep(0)
            self.now_s += 1 + self._context_s * (prompt_tokens + number)
            usage = {"completion_tokens": number + 1, "prompt_tokens_details": {"cached_tokens": cached_tokens}}
            yield b"data: " + orjson.dumps({"usage": usage}) + b"\n\n"
        yield b"data: [DONE]\n\n"


async def test_a_probe_takes_the_times_of_streams() -> None:
    """Of one alone a token a second, of two at a time each its half; no two prompts begin alike."""
    replica = FakeReplica()
    probe = replica.probe()
    assert await probe.find_model() == ProbedModel("demo", 4095)
    assert await probe.first_token_s(500) == pytest.approx(1.5)
    assert await probe.between_tokens_s(1) == pytest.approx(1)
    assert await probe.between_tokens_s(2) == pytest.approx(2, rel=0.05)
    assert probe.prompt_tokens == sum(len(str(body["prompt"]).split(",")) for body in replica.bodies) == 500 + 3 * 8
    assert len({str(body["prompt"])[:20] for body in replica.bodies}) == 4


async def test_a_context_is_cached_before_its_time_is_taken() -> None:
    """What comes after it is new; a replica that does not keep it cannot be measured."""
    replica = FakeReplica()
    probe = replica.probe()
    assert await probe.first_token_after_s(1024, new_tokens=256) == pytest.approx(1.256)
    context, whole = (body["prompt"] for body in replica.bodies)
    assert (len(context), whole[:1024], len(whole)) == (1024, context, 1280)
    assert probe.prompt_tokens == 1024 + 1280
    replica.forgets = True
    with pytest.raises(CalibrationError, match="had 0 of 1024 prompt tokens cached"):
        await probe.first_token_after_s(1024, new_tokens=256)


async def test_one_stream_is_decoded_after_each_long_context() -> None:
    """Which has so many tokens halfway through an answer of 192; the longer ones begin as the shorter ones do."""
    replica = FakeReplica(context_s=0.001)
    probe = replica.probe()
    for context_tokens in (1024, 2048, 1024):
        assert await probe.between_tokens_after_s(context_tokens) == pytest.approx(1 + 0.001 * context_tokens)
    prompts = [body["prompt"] for body in replica.bodies]
    assert [len(each) for each in prompts] == [928, 1952, 928]
    assert prompts[1][:928] == prompts[0] == prompts[2]
    assert {body["max_tokens"] for body in replica.bodies} == {192}


async def test_a_replica_that_refuses_ends_the_calibration() -> None:
    """With its own words."""
    with pytest.raises(CalibrationError, match="answered 400: too long"):
        await FakeReplica().probe().first_token_s(5000)


async def test_streams_that_fail_together_have_one_reason() -> None:
    """Not a group of them."""
    client = httpx.AsyncClient(
        base_url="http://replica", transport=httpx.MockTransport(lambda _: httpx.Response(503, text="no room"))
    )
    with pytest.raises(CalibrationError, match="answered 503: no room"):
        await ReplicaProbe(client, rng=Random(1), clock=lambda: 0.0).between_tokens_s(4)


async def test_what_is_no_replica_ends_the_calibration() -> None:
    """A web server, say."""
    client = httpx.AsyncClient(
        base_url="http://elsewhere", transport=httpx.MockTransport(lambda _: httpx.Response(200, text="hello"))
    )
    with pytest.raises(CalibrationError, match="http://elsewhere does not say which model"):
        await ReplicaProbe(client, rng=Random(1), clock=lambda: 0.0).find_model()


def bystanders(*reports: tuple[int, ...]) -> Bystanders:
    """Of a replica that reports running requests, prompt tokens and perhaps of these the self-test's, one after the
    other, the last for ever.
    """
    following: Iterator[tuple[int, ...]] = itertools.chain(reports, itertools.repeat(reports[-1]))
    time_s = itertools.count(step=TIMEOUT_S / 4)

    def read() -> RouterSnapshot:
        names = ("running", "prompt_tokens", "own_tokens")
        engine = EngineSnapshot(waiting=0, **dict(zip(names, next(following), strict=False)))
        return router("a", {"one": replica(engine=engine)})

    return Bystanders(read, "one", clock=lambda: next(time_s), sleep=lambda _: None)


def test_a_busy_replica_is_refused() -> None:
    """From the start."""
    with pytest.raises(CalibrationError, match="2 requests of others are running"):
        bystanders((2, 0))


def test_prompts_of_others_are_noticed() -> None:
    """By the engine's own count, which comes late; ours alone are well."""
    bystanders((0, 100), (0, 110), (0, 130)).check(30)
    with pytest.raises(CalibrationError, match="others sent prompts of 5 tokens"):
        bystanders((0, 100), (0, 110), (0, 135)).check(30)
    with pytest.raises(CalibrationError, match="reports 20 prompt tokens less than it got"):
        bystanders((0, 100), (0, 110)).check(30)


def test_the_self_tests_prompts_are_nobodys() -> None:
    """The replica counts them apart."""
    bystanders((0, 100, 50), (0, 180, 100)).check(30)


def test_a_replica_is_chosen_by_its_short_id() -> None:
    """Without one, the first that can be reached."""
    replicas, urls = {"app#LLM#one": None, "app#LLM#two": None}, {"two": "http://2", "three": "http://3"}
    assert choose_replica(replicas, urls, wanted=None) == "app#LLM#two"
    assert choose_replica(replicas, urls, wanted="two") == "app#LLM#two"
    with pytest.raises(CalibrationError, match="no replica one is known to HAProxy and the routers: there is two"):
        choose_replica(replicas, urls, wanted="one")
    with pytest.raises(CalibrationError, match="there is none"):
        choose_replica(replicas, {}, wanted=None)


def test_a_url_needs_no_cluster() -> None:
    """But then nobody knows about others."""
    with find_replica(None, url="http://replica:8000/v1/", replica=None) as place:
        assert (place.url, place.bystanders) == ("http://replica:8000", None)

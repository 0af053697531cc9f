"""Whether an engine goes round, by what it answers from beat to beat."""

import asyncio

import pytest

from serve_app.replica.engine_pulse import EnginePulse


class Engine:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.num_asked = 0
        self.goes_round = asyncio.Event()
        self.error: Exception | None = None

    async def answer(self) -> bool:
        """Between two steps."""
        self.num_asked += 1
        await self.goes_round.wait()
        if self.error is not None:
            raise self.error
        return False


@pytest.fixture
def engine() -> Engine:
    """A new one."""
    return Engine()


async def beat(pulse: EnginePulse, *, times: int) -> None:
    """Each with time for an answer, before it and after it."""
    for _ in range(times):
        await until_nothing_happens()
        pulse.beat()
        await until_nothing_happens()


async def until_nothing_happens() -> None:
    """The longest chain here: a flag is set, who waits for it goes on, and is done."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_an_engine_that_answers_goes_round(engine: Engine) -> None:
    """Whether it has work or not, it is asked at every beat."""
    engine.goes_round.set()
    pulse = EnginePulse(engine.answer, max_missed=1)
    await beat(pulse, times=10)
    assert not pulse.is_lost
    assert engine.num_asked == 10


async def test_an_engine_hangs_after_so_many_beats_without_an_answer(engine: Engine) -> None:
    """Not before, and it is asked only once."""
    pulse = EnginePulse(engine.answer, max_missed=3)
    await beat(pulse, times=3)
    assert not pulse.is_lost
    await beat(pulse, times=1)
    assert pulse.is_lost
    assert engine.num_asked == 1


async def test_a_long_step_is_forgotten_when_it_is_over(engine: Engine) -> None:
    """Two beats missed, twice, are not four."""
    pulse = EnginePulse(engine.answer, max_missed=3)
    for _ in range(2):
        engine.goes_round.clear()
        await beat(pulse, times=3)
        engine.goes_round.set()
        await beat(pulse, times=1)
        assert not pulse.is_lost
    await beat(pulse, times=10)
    assert not pulse.is_lost


async def test_a_replica_that_stood_still_does_not_blame_its_engine(engine: Engine) -> None:
    """However long its loop was held up, that was one beat, and the answer comes after it."""
    pulse = EnginePulse(engine.answer, max_missed=2)
    await beat(pulse, times=1)
    engine.goes_round.set()
    pulse.beat()  # late, and before the loop came to the answer
    assert not pulse.is_lost
    await beat(pulse, times=2)
    assert not pulse.is_lost


async def test_a_failure_is_an_answer(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The log has its kind, not its text."""
    engine.goes_round.set()
    engine.error = ValueError("a prompt, perhaps")
    pulse = EnginePulse(engine.answer, max_missed=1)
    await beat(pulse, times=3)
    assert not pulse.is_lost
    assert "ValueError" in caplog.text
    assert "perhaps" not in caplog.text

"""Sums over time that outlive the process."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import Funnel, Loss
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.ttft import Ttft
from serve_app.ops.history import ROUTERS_KEPT_S, History, HistoryError, Reading, Series
from serve_app.ops.windows import DAY_S, HOUR_S, MOMENTS, WINDOWS
from serve_app.telemetry.metrics import RANK, TENANT
from tests.serve_app.ops.builders import Clock

NOW_S = 1_800_000_000.0
HERE, THERE = Series("warmroute", RANK, "0"), Series("warmroute", RANK, "1")
ACME = Series("warmroute", TENANT, "acme")


@contextlib.contextmanager
def opened(path: Path | None, clock: Clock | None = None) -> Iterator[History]:
    """A history that is open until the block's end."""
    history = History(path, clock=clock or Clock(0.0))
    try:
        yield history
    finally:
        history.close()


def total(prompts: int) -> PromptTotals:
    """Totals of which only the number of prompts was counted."""
    return PromptTotals(Funnel(prompts=prompts))


def reading(router: str, prompts: int, series: Series = HERE) -> Reading:
    """A router's count of prompts."""
    return Reading(router, series, total(prompts))


def ever(history: History, series: Series = HERE) -> int:
    """The number of prompts of all time."""
    return history.totals(None, now_s=NOW_S).get(series, PromptTotals()).funnel.prompts


def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    """Not even what the routers counted meanwhile."""
    path = tmp_path / "folder" / "ops.sqlite"
    with opened(path) as history:
        history.add([reading("a", 3), reading("b", 1)], now_s=NOW_S)
    with opened(path) as history:
        assert ever(history) == 4
        history.add([reading("a", 10), reading("b", 1)], now_s=NOW_S + 60)
        assert ever(history) == 11


def test_a_router_that_starts_anew_counts_from_there() -> None:
    """By another name, as Serve gives it, or by the same."""
    with opened(None) as history:
        history.add([reading("a", 3)], now_s=NOW_S)
        history.add([reading("b", 2)], now_s=NOW_S)
        history.add([reading("a", 1)], now_s=NOW_S)
        assert ever(history) == 6


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([HERE, THERE]), st.integers(0, 5)), max_size=30))
def test_sums_are_what_was_counted(steps: list[tuple[str, Series, int]]) -> None:
    """Over any readings of growing counters, a moment apart."""
    counters: dict[tuple[str, Series], int] = {}
    with opened(None) as history:
        for number, (router, series, more) in enumerate(steps):
            counters[router, series] = counters.get((router, series), 0) + more
            readings = [reading(name, count, each) for (name, each), count in counters.items()]
            history.add(readings, now_s=NOW_S + number)
        for series in (HERE, THERE):
            expected = sum(count for (_, each), count in counters.items() if each == series)
            assert ever(history, series) == expected
            window = history.totals(WINDOWS["5m"], now_s=NOW_S + len(steps))
            assert window.get(series, PromptTotals()).funnel.prompts == expected


def test_windows_slide_and_buckets_are_apart() -> None:
    """What is older than a window is not in it; an hour later there are two buckets."""
    with opened(None) as history:
        history.add([reading("a", 3)], now_s=NOW_S)
        history.add([reading("a", 5), reading("a", 7, THERE)], now_s=NOW_S + HOUR_S)
        later_s = NOW_S + HOUR_S + 30
        assert history.totals(WINDOWS["5m"], now_s=later_s) == {HERE: total(2), THERE: total(7)}
        assert history.totals(WINDOWS["24h"], now_s=later_s)[HERE] == total(5)
        buckets = history.buckets("warmroute", WINDOWS["7d"], now_s=later_s)
        assert list(buckets.values()) == [total(3), total(9)]
        assert [start_s % HOUR_S for start_s in buckets] == [0, 0]
        assert history.buckets("another", WINDOWS["7d"], now_s=later_s) == {}


def test_old_buckets_and_routers_are_forgotten() -> None:
    """Not the sum of all time, nor the counters of a router that is idle and there."""
    clock = Clock(0.0)
    with opened(None, clock) as history:
        history.add([reading("idle", 3), reading("gone", 2)], now_s=NOW_S)
        later_s = NOW_S + ROUTERS_KEPT_S + DAY_S
        clock.now_s += ROUTERS_KEPT_S + DAY_S
        history.forget_old({"idle"})
        assert history.buckets("warmroute", WINDOWS["7d"], now_s=NOW_S) != {}
        assert history.totals(WINDOWS["5m"], now_s=NOW_S) == {}
        assert MOMENTS.kept_s is not None
        history.add([reading("idle", 4)], now_s=later_s)
        assert ever(history) == 6
        history.add([reading("gone", 2)], now_s=later_s)
        assert ever(history) == 8


def test_age_is_time_in_which_it_runs(tmp_path: Path) -> None:
    """Over several processes, half of the time in each; a day on which none did makes nothing older."""
    path, clock = tmp_path / "ops.sqlite", Clock(0.0)
    assert MOMENTS.kept_s is not None
    for number, is_kept in ((1, True), (2, True), (3, False)):
        clock.now_s = number * DAY_S
        with opened(path, clock) as history:
            if number == 1:
                history.add([reading("a", 3)], now_s=NOW_S)
            clock.now_s += MOMENTS.kept_s / 2
            history.forget_old({"a"})
            assert bool(history.totals(WINDOWS["5m"], now_s=NOW_S)) is is_kept, number


def test_a_bucket_is_as_old_as_its_last_prompt() -> None:
    """A day, or the moment that a clock stood at for hours."""
    clock = Clock(0.0)
    with opened(None, clock) as history:
        assert MOMENTS.kept_s is not None
        for prompts in (3, 5):
            history.add([reading("a", prompts)], now_s=NOW_S)
            clock.now_s += MOMENTS.kept_s - 1
            history.forget_old({"a"})
        assert history.totals(WINDOWS["5m"], now_s=NOW_S)[HERE] == total(5)


@pytest.mark.parametrize("jump_s", [10 * 365 * DAY_S, HOUR_S, -HOUR_S, -10 * 365 * DAY_S])
def test_a_clock_that_jumps_costs_no_history(jump_s: float) -> None:
    """Ahead and back, or back and ahead: what was counted before is there, and so is what comes after. What came in
    between is where that clock put it, and in the sum of all.
    """
    clock = Clock(0.0)
    with opened(None, clock) as history:
        for now_s, prompts in ((NOW_S, 3), (NOW_S + 60, 5), (NOW_S + 120 + jump_s, 6), (NOW_S + 180, 10)):
            clock.now_s += 60
            history.add([reading("a", prompts)], now_s=now_s)
            history.forget_old({"a"})
        window = WINDOWS["5m"]
        assert list(history.buckets("warmroute", window, now_s=NOW_S + 180).values()) == [
            total(3),
            total(2),
            total(4),
        ]
        assert history.totals(window, now_s=NOW_S + 180)[HERE] == total(9)
        assert history.totals(window, now_s=NOW_S + 120 + jump_s)[HERE] == total(1)
        assert ever(history) == 10
        assert MOMENTS.kept_s is not None
        clock.now_s += MOMENTS.kept_s + 1
        history.forget_old({"a"})
        assert history.totals(window, now_s=NOW_S + 180) == history.totals(window, now_s=NOW_S + 120 + jump_s) == {}


def test_a_router_that_was_silent_when_the_clock_jumped_is_not_counted_twice() -> None:
    """It did not answer at that moment, and was there again later."""
    with opened(None) as history:
        history.add([reading("a", 100), reading("b", 1)], now_s=NOW_S)
        history.add([reading("b", 2)], now_s=NOW_S + 10 * 365 * DAY_S)
        history.forget_old({"b"})
        history.add([reading("a", 101), reading("b", 2)], now_s=NOW_S + 60)
        assert ever(history) == 103


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """While one replica replaces another, two would count everything twice."""
    path = tmp_path / "ops.sqlite"
    with opened(path) as history:
        with pytest.raises(HistoryError, match="locked"):
            History(path)
        history.add([reading("a", 3)], now_s=NOW_S)
    with opened(path) as history:
        assert ever(history) == 3


def test_another_versions_file_is_left_alone(tmp_path: Path) -> None:
    """And named, with what to do."""
    path = tmp_path / "ops.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(HistoryError, match=r"ops\.sqlite.*version 7, this one reads 3; move it away"):
        History(path)


VERSION_1 = """
CREATE TABLE amounts (
    span_s INTEGER, start_s INTEGER, application TEXT, rank INTEGER, name TEXT, amount REAL NOT NULL,
    PRIMARY KEY (span_s, start_s, application, rank, name)
) WITHOUT ROWID;
CREATE TABLE counted (
    router TEXT, application TEXT, rank INTEGER, name TEXT, amount REAL NOT NULL, seen_s INTEGER NOT NULL,
    PRIMARY KEY (router, application, rank, name)
) WITHOUT ROWID;
INSERT INTO amounts VALUES (0, 0, 'warmroute', 1, 'prompts', 5);
INSERT INTO counted VALUES ('a', 'warmroute', 1, 'prompts', 3, 1800000000);
PRAGMA user_version = 1;
"""
VERSION_2 = """
CREATE TABLE amounts (
    span_s INTEGER, start_s INTEGER, application TEXT, label TEXT, value TEXT, name TEXT, amount REAL NOT NULL,
    PRIMARY KEY (span_s, start_s, application, label, value, name)
) WITHOUT ROWID;
CREATE TABLE counted (
    router TEXT, application TEXT, label TEXT, value TEXT, name TEXT, amount REAL NOT NULL, seen_s INTEGER NOT NULL,
    PRIMARY KEY (router, application, label, value, name)
) WITHOUT ROWID;
INSERT INTO amounts VALUES (0, 0, 'warmroute', 'rank', '1', 'prompts', 5);
INSERT INTO counted VALUES ('a', 'warmroute', 'rank', '1', 'prompts', 3, 1800000000);
PRAGMA user_version = 2;
"""


@pytest.mark.parametrize("script", [VERSION_1, VERSION_2])
def test_an_earlier_versions_file_goes_on(script: str, tmp_path: Path) -> None:
    """With its sums, and with what was seen of the routers."""
    path = tmp_path / "ops.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(script)
    for prompts in (4, 6):
        with opened(path) as history:
            history.add([reading("a", prompts, THERE), reading("a", prompts, ACME)], now_s=NOW_S)
            assert ever(history, THERE) == 5 + prompts - 3
            assert ever(history, ACME) == prompts
            assert list(history.buckets("warmroute", WINDOWS["7d"], now_s=NOW_S).values()) == [total(prompts - 3)]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """Such as one that somebody else wrote, or a folder."""
    path = tmp_path / "ops.sqlite"
    path.write_text("no database, and long enough to be none " * 10)
    with pytest.raises(HistoryError, match="not a database"):
        History(path)
    with pytest.raises(HistoryError, match="cannot be used"):
        History(tmp_path)


def test_what_could_not_be_written_comes_later(tmp_path: Path) -> None:
    """Nothing of it is in the history before that."""
    with opened(tmp_path / "ops.sqlite") as history:
        history.add([reading("a", 1)], now_s=NOW_S)
        history._db.execute("PRAGMA query_only = 1")
        with pytest.raises(HistoryError, match="cannot be written"):
            history.add([reading("a", 5)], now_s=NOW_S)
        assert ever(history) == 1
        history._db.execute("PRAGMA query_only = 0")
        history.add([reading("a", 6)], now_s=NOW_S)
        assert ever(history) == 6


def test_all_totals_come_back(tmp_path: Path) -> None:
    """Stages, losses and both histograms."""
    funnel = Funnel(2, 200, 160, 160, 120, 100, 80, lost={Loss.EVICTED: 40, Loss.NEW: 40})
    ttft = Ttft()
    ttft.add(0.25, is_warm=True)
    ttft.add(64.0, is_warm=False)
    with opened(tmp_path / "ops.sqlite") as history:
        history.add([Reading("a", HERE, PromptTotals(funnel, ttft))], now_s=NOW_S)
        assert history.totals(WINDOWS["5m"], now_s=NOW_S) == {HERE: PromptTotals(funnel, ttft)}

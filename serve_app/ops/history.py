"""The history of what routers counted: totals of prompts in buckets of time, in one SQLite file.

What was last seen of each router's counters is stored with them, in the same transaction: after a restart, counting
goes on where it was, and what routers counted in between is not lost. Only one process can have the file open.

Two clocks are used. The wall clock says in which bucket something is counted, because people look for it there. The
time that the application has been running, which the file keeps, says how old something is: a wall clock that is set
ahead once, and back, must not make everything old. What was counted in between is in the totals of all time, and in
buckets that are not shown before their time comes.
"""

import contextlib
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from router import Funnel, Loss
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.ttft import BOUNDS_S, KINDS, Histogram, Ttft
from serve_app.ops.windows import EVER, SPANS, Window
from serve_app.telemetry.funnel_report import TOKEN_SUMS
from serve_app.telemetry.metrics import RANK

SCHEMA_VERSION = 3
SCHEMA = """
CREATE TABLE amounts (
    span_s INTEGER, start_s INTEGER, application TEXT, label TEXT, value TEXT, name TEXT, amount REAL NOT NULL,
    run_s REAL NOT NULL,
    PRIMARY KEY (span_s, start_s, application, label, value, name)
) WITHOUT ROWID;
CREATE TABLE counted (
    router TEXT, application TEXT, label TEXT, value TEXT, name TEXT, amount REAL NOT NULL, run_s REAL NOT NULL,
    PRIMARY KEY (router, application, label, value, name)
) WITHOUT ROWID;
CREATE TABLE running (run_s REAL NOT NULL);
INSERT INTO running VALUES (0);
"""
"""`run_s` is the time that the application had been running, over all its processes, when a row was last written."""
VERSION_TO_LABELS = {1: "'rank', rank", 2: "label, value"}
"""The columns that name a row's series, by the version of the file: the first version had no tenants. Neither version
kept how long it had been running, so all rows of such a file count as written when this version finds it."""
UPGRADE = f"""
ALTER TABLE amounts RENAME TO old_amounts;
ALTER TABLE counted RENAME TO old_counted;
{SCHEMA}
INSERT INTO amounts SELECT span_s, start_s, application, {{labels}}, name, amount, 0 FROM old_amounts;
INSERT INTO counted SELECT router, application, {{labels}}, name, amount, 0 FROM old_counted;
DROP TABLE old_amounts;
DROP TABLE old_counted;
"""  # noqa: S608  of constants
ADD = """
INSERT INTO amounts VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET amount = amount + excluded.amount, run_s = excluded.run_s
"""
REMEMBER = "INSERT OR REPLACE INTO counted VALUES (?, ?, ?, ?, ?, ?, ?)"
SUMS = ("prompts", *TOKEN_SUMS)
ROUTERS_KEPT_S = 7 * 86400
"""Seconds after which the counters of a router that was not seen are forgotten, while the application was running: the
router will not come back."""


class HistoryError(Exception):
    """The file cannot be used; the message says why."""


class Series(NamedTuple):
    """Whose totals."""

    application: str
    label: str
    """`RANK` or `TENANT`: each prompt is counted for its replica, and for its tenant if there are any."""
    value: str


class Reading(NamedTuple):
    """All that one router has counted of some prompts since it started."""

    router: str
    series: Series
    totals: PromptTotals


class History:
    """The totals of all time and of each bucket. Use it from several threads if you like.

    Args:
        path: of the file, made where it is missing; None keeps it in memory, and a restart begins again.
        clock: seconds, from any start; it must not go back.

    Raises:
        HistoryError: another process has the file, or it is of another version or not a history.

    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        name = ":memory:" if path is None else str(path)
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(name, timeout=0, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise HistoryError(f"{name} cannot be used for the history of ops: {error}") from error
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            with self._transaction():
                self._prepare()
            self._counted = self._load_counted()
            (self._ran_before_s,) = self._db.execute("SELECT run_s FROM running").fetchone()
            self._opened_at_s = clock()
        except (sqlite3.Error, HistoryError) as error:
            self._db.close()
            raise HistoryError(f"{name} cannot be used for the history of ops: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def add(self, readings: Iterable[Reading], *, now_s: float) -> None:
        """Add what is new since the last time. After an error nothing is added, and the next time adds it.

        Args:
            readings: each router's counters, which only grow; one that is smaller than before has started again.
            now_s: Unix time.

        Raises:
            HistoryError: it cannot be written.

        """
        added: defaultdict[tuple[Series, str], float] = defaultdict(float)
        counted: dict[tuple[str, Series, str], float] = {}
        for router, series, totals in readings:
            for name, amount in _amounts(totals).items():
                before = self._counted.get((router, series, name), 0.0)
                if amount != before:
                    added[series, name] += amount - before if amount > before else amount
                    counted[router, series, name] = amount
        if not added:
            return
        run_s = self._run_s
        try:
            with self._transaction():
                self._db.execute("UPDATE running SET run_s = ?", (run_s,))
                self._db.executemany(
                    ADD,
                    (
                        (span.length_s, span.start(now_s), *series, name, amount, run_s)
                        for span in SPANS
                        for (series, name), amount in added.items()
                    ),
                )
                self._db.executemany(
                    REMEMBER,
                    ((router, *series, name, amount, run_s) for (router, series, name), amount in counted.items()),
                )
        except sqlite3.Error as error:
            raise HistoryError(f"the history of ops cannot be written: {error}") from error
        self._counted |= counted

    def forget_old(self, routers: Iterable[str]) -> None:
        """Drop buckets that were kept long enough, and counters of routers that are long gone.

        Args:
            routers: the ids of those that run now.

        Raises:
            HistoryError: it cannot be written.

        """
        run_s = self._run_s
        try:
            with self._transaction():
                self._db.execute("UPDATE running SET run_s = ?", (run_s,))
                for span in SPANS:
                    if span.kept_s is not None:
                        oldest = (span.length_s, run_s - span.kept_s)
                        self._db.execute("DELETE FROM amounts WHERE span_s = ? AND run_s < ?", oldest)
                seen = ((run_s, router) for router in routers)
                self._db.executemany("UPDATE counted SET run_s = ? WHERE router = ?", seen)
                self._db.execute("DELETE FROM counted WHERE run_s < ?", (run_s - ROUTERS_KEPT_S,))
            self._counted = self._load_counted()
        except sqlite3.Error as error:
            raise HistoryError(f"the history of ops cannot be written: {error}") from error

    def totals(self, window: Window | None, *, now_s: float) -> dict[Series, PromptTotals]:
        """The totals of a window; of all time where it is None."""
        span, start_s = (EVER, 0) if window is None else (window.span, window.start(now_s))
        series_to_amounts: defaultdict[Series, dict[str, float]] = defaultdict(dict)
        for *series, name, amount in self._rows(
            "SELECT application, label, value, name, SUM(amount) FROM amounts WHERE span_s = ? "
            "AND start_s BETWEEN ? AND ? GROUP BY application, label, value, name",
            (span.length_s, start_s, now_s),
        ):
            series_to_amounts[Series(*series)][name] = amount
        return {series: _totals(amounts) for series, amounts in series_to_amounts.items()}

    def buckets(self, application: str, window: Window, *, now_s: float) -> dict[int, PromptTotals]:
        """The buckets of a window, of all replicas of an application together, by their start; empty ones are left
        out.
        """
        start_to_amounts: defaultdict[int, dict[str, float]] = defaultdict(dict)
        for start_s, name, amount in self._rows(
            "SELECT start_s, name, SUM(amount) FROM amounts WHERE span_s = ? AND start_s BETWEEN ? AND ? "
            "AND application = ? AND label = ? GROUP BY start_s, name ORDER BY start_s",
            (window.span.length_s, window.start(now_s), now_s, application, RANK),
        ):
            start_to_amounts[start_s][name] = amount
        return {start_s: _totals(amounts) for start_s, amounts in start_to_amounts.items()}

    @property
    def _run_s(self) -> float:
        """Seconds for which the application has been running, over all its processes that had this file."""
        run_s: float = self._ran_before_s + self._clock() - self._opened_at_s
        return run_s

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise HistoryError(f"the history of ops cannot be read: {error}") from error

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return
        if version and version not in VERSION_TO_LABELS:
            raise HistoryError(f"it is of version {version}, this one reads {SCHEMA_VERSION}; move it away")
        script = UPGRADE.format(labels=VERSION_TO_LABELS[version]) if version else SCHEMA
        for statement in filter(str.strip, script.split(";")):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _load_counted(self) -> dict[tuple[str, Series, str], float]:
        rows = self._db.execute("SELECT router, application, label, value, name, amount FROM counted")
        return {(router, Series(*series), name): amount for router, *series, name, amount in rows}


def _amounts(totals: PromptTotals) -> dict[str, float]:
    """Totals as named amounts, as the file has them."""
    amounts = {name: float(getattr(totals.funnel, name)) for name in SUMS}
    amounts |= {f"lost.{cause.value}": float(tokens) for cause, tokens in totals.funnel.lost.items()}
    for kind, histogram in totals.ttft.by_kind():
        amounts |= {f"ttft.{kind}.{index}": float(count) for index, count in enumerate(histogram.counts)}
        amounts[f"ttft.{kind}.sum_s"] = histogram.sum_s
    return amounts


def _totals(amounts: Mapping[str, float]) -> PromptTotals:
    """The totals that `_amounts` named."""
    lost = {cause: round(amounts[f"lost.{cause.value}"]) for cause in Loss if amounts.get(f"lost.{cause.value}")}
    funnel = Funnel(**{name: round(amounts.get(name, 0)) for name in SUMS}, lost=lost)
    return PromptTotals(funnel, Ttft(**{kind: _histogram(amounts, f"ttft.{kind}") for kind in KINDS}))


def _histogram(amounts: Mapping[str, float], prefix: str) -> Histogram:
    counts = [round(amounts.get(f"{prefix}.{index}", 0)) for index in range(len(BOUNDS_S) + 1)]
    return Histogram(counts, amounts.get(f"{prefix}.sum_s", 0.0))

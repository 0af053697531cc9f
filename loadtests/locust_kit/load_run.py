"""Locust's events, bound to a run. Each process has one: it sends its share of the sessions, or collects as the master.

A master and its workers are told their parts by Locust; in a run of one process, that process is both.
"""

import json
import logging
import time
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Group
from locust.env import Environment
from locust.rpc import Message
from locust.runners import STATE_SPAWNING, LocalRunner, MasterRunner, WorkerRunner

from loadtests.client.exchange import Exchange
from loadtests.locust_kit import result
from loadtests.locust_kit.options import FILES, OptionsError, RateOf, RunOptions
from loadtests.locust_kit.sender import LocustSender, ServerError
from loadtests.locust_kit.share import SessionShare
from loadtests.locust_kit.slo import faults
from loadtests.locust_kit.totals import COLD_TTFT, INTER_TOKEN, WARM_TTFT, Totals, exchange_rows
from loadtests.workloads import Session, Texts, TextsError, Turn, session_at

SHARE_MESSAGE = "warmroute_share"
REPORT_KEY = "warmroute"
METHOD = "POST"
SHED_ROW = "shed"
TOKENS_METHOD = "TOKENS"
"""The rows of this method count tokens where the others have milliseconds."""
CACHED_ROW = "cached tokens of a prompt"
IDLE_S = 1.0
NUM_SESSIONS_FOR_MEAN = 1000
DEFAULT_RETRY_AFTER_S = 1.0

logger = logging.getLogger(__name__)


class LoadRun:
    """The kit in one of Locust's processes.

    Args:
        environment: Locust's, with its runner.

    Raises:
        OptionsError: an argument cannot be.

    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.options = RunOptions.read(environment.parsed_options)
        self.totals = Totals()
        self._files = {name: getattr(environment.parsed_options, name) for name in FILES}
        self._has_started = False
        self._is_ending = False
        self._share: SessionShare | None = SessionShare(0, 1) if isinstance(environment.runner, LocalRunner) else None
        self._sending: _Sending | None = None
        self._listen()

    def faults(self) -> list[str]:
        """Everything for which the run has failed so far."""
        return faults(self.totals, self.options.slos, max_error_share=self.options.max_error_share)

    def run_next_session(self) -> None:
        """Run one session of one of Locust's users, from its first turn to its last; nothing in an open loop."""
        sending = self._sending
        number = None if sending is None else sending.take_number()
        if sending is None or number is None:
            gevent.sleep(IDLE_S)
        else:
            sending.run(number)

    def _listen(self) -> None:
        events, runner = self._environment.events, self._environment.runner
        events.test_start.add_listener(self._on_test_start)
        events.test_stopping.add_listener(self._on_test_stopping)
        events.quitting.add_listener(self._on_quitting)
        events.report_to_master.add_listener(self._on_report_to_master)
        events.worker_report.add_listener(self._on_worker_report)
        if isinstance(runner, WorkerRunner):
            runner.register_message(SHARE_MESSAGE, self._on_share)

    def _on_test_start(self, **_: object) -> None:
        self.totals = Totals()
        self._has_started, self._is_ending = True, False
        runner = self._environment.runner
        assert runner is not None
        if not isinstance(runner, WorkerRunner):  # a worker has its master's
            # Locust does so after this, which can take long; a page that sees "ready" till then forgets that it started
            runner.update_state(STATE_SPAWNING)
            vars(self._environment.parsed_options).update(self._files)
        try:
            self.options = RunOptions.read(self._environment.parsed_options)
            if isinstance(runner, MasterRunner):
                self._send_shares(runner)
            elif self._share is None:
                logger.warning("This worker came after the run began: it waits for the next one.")
            else:
                self._start_sending(self._share)
        except (OptionsError, TextsError, ServerError) as error:
            logger.error("%s", error)  # noqa: TRY400  its message is the whole story
            self.totals.problems.add(str(error))
            self._end_if_done()

    def _send_shares(self, master: MasterRunner) -> None:
        """Before Locust tells the workers to start, over the same connections, so in this order."""
        workers = master.clients.ready
        if not self.options.rate and master.target_user_count < len(workers):
            raise OptionsError(f"-u {master.target_user_count}: give each of the {len(workers)} workers a user")
        for index, worker in enumerate(workers):
            data = {"index": index, "num_processes": len(workers)}
            master.send_message(SHARE_MESSAGE, data, client_id=worker.id)

    def _start_sending(self, share: SessionShare) -> None:
        if not (host := self._environment.host):
            raise OptionsError("no --host: give the server's URL")
        texts = self.options.read_texts()
        sender = LocustSender(host, self.options.model)
        self._sending = _Sending(self._environment, self, sender, texts, share)
        self._sending.start()

    def _on_test_stopping(self, **_: object) -> None:
        if self._sending is not None:
            self._sending.stop()
            self._sending = None
        if isinstance(self._environment.runner, WorkerRunner):
            self._share = None  # the master sends one for each run

    def _on_share(self, msg: Message, **_: object) -> None:
        self._share = SessionShare(msg.data["index"], msg.data["num_processes"])

    def _on_report_to_master(self, data: dict[str, Any], **_: object) -> None:
        data[REPORT_KEY] = self.totals.as_message()
        self.totals = Totals()

    def _on_worker_report(self, data: dict[str, Any], **_: object) -> None:
        self.totals.merge(Totals.from_message(data[REPORT_KEY]))
        self._end_if_done()

    def on_session_end(self) -> None:
        """One of this process's sessions has ended."""
        self.totals.num_sessions += 1
        self._end_if_done()

    def _end_if_done(self) -> None:
        """End the run once all sessions have ended; not in a worker, which has only its own."""
        is_done = 0 < self.options.num_sessions <= self.totals.num_sessions
        if (
            isinstance(self._environment.runner, WorkerRunner)
            or self._is_ending
            or not (is_done or self.totals.problems)
        ):
            return
        self._is_ending = True
        gevent.spawn(self._end)

    def _end(self) -> None:
        runner, options = self._environment.runner, self._environment.parsed_options
        assert runner is not None
        assert options is not None
        if options.headless:
            runner.quit()
        else:
            runner.stop()

    def _on_quitting(self, **_: object) -> None:
        if isinstance(self._environment.runner, WorkerRunner):
            self._environment.process_exit_code = 0  # what the run was worth is for the master to say
        elif self._has_started:
            self._conclude()

    def _conclude(self) -> None:
        found, runner = self.faults(), self._environment.runner
        assert runner is not None
        for line in result.lines(self.totals, self.options, found):
            print(line, flush=True)  # noqa: T201  the run's result, besides Locust's own tables
        if path := self._files["report"]:
            report = result.as_json(self.totals, self.options, found)
            Path(path).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        self._environment.process_exit_code = 1 if found or runner.exceptions else 0


class _Sending:
    """One process's share of the sessions, while a run goes on."""

    def __init__(
        self, environment: Environment, run: LoadRun, sender: LocustSender, texts: Texts, share: SessionShare
    ) -> None:
        self._environment = environment
        self._run = run
        self._sender = sender
        self._texts = texts
        self._share = share
        self._options = run.options
        self._numbers = share.numbers(self._options.num_sessions)
        self._greenlets = Group()

    def start(self) -> None:
        """Begin sessions in an open loop, in which Locust's users are idle."""
        if self._options.rate:
            self._greenlets.spawn(self._arrive)

    def stop(self) -> None:
        """Stop at once, sessions under way included."""
        self._greenlets.kill(block=False)

    def take_number(self) -> int | None:
        """The number of the next session of a closed loop; None when there is none."""
        return None if self._options.rate else next(self._numbers, None)

    def run(self, number: int) -> None:
        """Send a session's requests, with its user's pauses."""
        session = session_at(number, self._options.workload, self._texts, seed=self._options.seed)
        for turn in session.turns:
            gevent.sleep(turn.think_s * self._options.think_scale)
            exchange = self._send(session, turn)
            while exchange.is_shed and not self._options.rate:
                gevent.sleep(exchange.retry_after_s or DEFAULT_RETRY_AFTER_S)
                exchange = self._send(session, turn)
        self._run.on_session_end()

    def _send(self, session: Session, turn: Turn) -> Exchange:
        exchange = self._sender.send(session.kind, turn)
        self._note(exchange)
        return exchange

    def _arrive(self) -> None:
        start_s, rate = time.monotonic(), self._sessions_per_s()
        for due_s, number in self._share.arrivals(self._options.num_sessions, rate=rate, seed=self._options.seed):
            late_s = time.monotonic() - start_s - due_s
            if late_s > 0:
                self._run.totals.max_late_s = max(self._run.totals.max_late_s, late_s)
            gevent.sleep(max(0.0, -late_s))
            self._greenlets.spawn(self.run, number)

    def _sessions_per_s(self) -> float:
        if self._options.rate_of is RateOf.SESSIONS:
            return self._options.rate
        first = (
            session_at(number, self._options.workload, self._texts, seed=self._options.seed)
            for number in range(NUM_SESSIONS_FOR_MEAN)
        )
        return self._options.rate * NUM_SESSIONS_FOR_MEAN / sum(len(session.turns) for session in first)

    def _note(self, exchange: Exchange) -> None:
        """Requests are Locust's, with their end-to-end time; the other rows stay out of its aggregate of requests."""
        self._run.totals.add(exchange)
        stats = self._environment.stats
        if exchange.is_shed:
            stats.get(SHED_ROW, METHOD).log(_milliseconds(exchange.duration_s), 0)
            return
        self._environment.events.request.fire(
            request_type=METHOD,
            name=exchange.kind,
            response_time=_milliseconds(exchange.duration_s),
            response_length=exchange.num_bytes,
            exception=None if exchange.is_complete else RuntimeError(exchange.outcome_text),
            context={},
        )
        if exchange.is_complete:
            for row, time_s in exchange_rows(exchange):
                if row in {COLD_TTFT, WARM_TTFT, INTER_TOKEN}:
                    stats.get(row, "").log(_milliseconds(time_s), 0)
            stats.get(CACHED_ROW, TOKENS_METHOD).log(exchange.cached_tokens, 0)


def _milliseconds(time_s: float | None) -> Any:  # noqa: ANN401  Locust's types say int, its code rounds floats
    assert time_s is not None, "the request is over"
    return time_s * 1000

"""Options, exchanges and totals; and a Locust in a process of its own, for it patches the standard library."""

import json
import os
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtests.client.answers import EventStream, Outcome
from loadtests.client.exchange import Exchange
from loadtests.locust_kit.options import RunOptions, add_arguments
from loadtests.locust_kit.totals import Totals

ROOT = Path(__file__).parents[3]
LOCUST = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py")]
TIMEOUT_S = 60


class Parser(ArgumentParser):
    """Stands in for Locust's, which has a page."""

    def add_argument(self, *names: str, include_in_web_ui: bool = True, **options: Any) -> Any:
        """Which is no matter here."""
        del include_in_web_ui
        return super().add_argument(*names, **options)


def options(*arguments: str) -> RunOptions:
    """As read from a command line."""
    parser = Parser()
    add_arguments(parser)
    return RunOptions.read(parser.parse_args(arguments))


def exchange(*, prompt_tokens: int = 100, cached_tokens: int = 0, answer_tokens: int = 5, **fields: Any) -> Exchange:
    """A complete answer of 5 tokens, cold."""
    stream = EventStream()
    stream.prompt_tokens, stream.cached_tokens, stream.answer_tokens = prompt_tokens, cached_tokens, answer_tokens
    complete: dict[str, Any] = {
        "request_id": "", "kind": "chat", "started_s": 0.0, "outcome": Outcome.COMPLETE, "duration_s": 0.5,
        "status": 200, "first_byte_s": 0.1, "last_token_s": 0.5, "stream": stream,
    }  # fmt: skip
    return Exchange(**(complete | fields))


def totals(*exchanges: Exchange) -> Totals:
    """The totals of these requests."""
    added = Totals()
    for ended in exchanges:
        added.add(ended)
    return added


def start_locust(*arguments: str) -> "subprocess.Popen[str]":
    """With its output to be read."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*LOCUST, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """What a Locust left."""

    code: int
    output: str
    report: dict[str, Any] | None


def end(process: "subprocess.Popen[str]", report: Path | None = None) -> Ended:
    """Wait for its own end."""
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    content = None if report is None or not report.exists() else json.loads(report.read_text())
    return Ended(process.returncode, output, content)


def run_locust(*arguments: str, report: Path | None = None) -> Ended:
    """Headless, in one process."""
    written = () if report is None else ("--report", str(report))
    return end(start_locust("--headless", "--only-summary", *arguments, *written), report)


def run_distributed(*arguments: str, port: int, report: Path) -> Ended:
    """Headless, with a master on that port and two workers."""
    workers = [start_locust("--worker", "--master-port", str(port)) for _ in range(2)]
    try:
        return run_locust(
            "--master", "--master-bind-port", str(port), "--expect-workers", "2", *arguments, report=report
        )
    finally:
        for worker in workers:
            end(worker)


def wait_for_port(port: int) -> None:
    """Until a Locust's page listens there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("Locust's page does not listen")

"""Locust itself, in processes of its own, against a server that only counts."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from loadtests.client.exchange import Exchange
from loadtests.workloads import Turn, Workload, default_texts, session_at, sessions
from tests.loadtests.locust_kit.builders import end, run_distributed, run_locust, start_locust, wait_for_port
from tests.loadtests.locust_kit.chat_server import ChatServer, running_chat_server
from tests.servers import free_port

TO_THE_END = ("--sessions", "9", "--think-scale", "0", "-u", "3", "-r", "3", "--seed", "5")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """Listening."""
    with running_chat_server(ChatServer(engine="simulated")) as server:
        yield server


def wanted(num: int, *, seed: int) -> list[dict[str, Any]]:
    """What the first sessions ask."""
    chosen = islice(sessions(Workload.MIX, default_texts(), seed=seed), num)
    return [{"model": "demo", **turn.body} for session in chosen for turn in session.turns]


def in_order(bodies: list[dict[str, Any]]) -> list[str]:
    """Whoever came first."""
    return sorted(map(str, bodies))


def test_a_run_sends_its_sessions_and_says_what_was_cached(server: ChatServer, tmp_path: Path) -> None:
    """All turns of nine sessions, and nothing else; first turns are cold."""
    ended = run_locust("--host", server.url, *TO_THE_END, "--warm-ttft-slo-ms", "60000", report=tmp_path / "r.json")
    assert ended.code == 0, ended.output
    assert in_order(server.bodies) == in_order(wanted(9, seed=5))
    report = ended.report
    assert report is not None
    assert report["sessions"] == 9
    assert report["rows"]["TTFT cold"]["count"] == 9
    assert report["rows"]["TTFT warm"]["count"] == len(server.bodies) - 9
    assert report["hit_rate"] == 80 * (len(server.bodies) - 9) / (100 * len(server.bodies))
    assert f"hit rate: {report['hit_rate']:.4f}" in ended.output
    assert "engine: simulated" in ended.output
    rows = ("TTFT cold", "TTFT warm", "inter-token time", "cached tokens of a prompt")
    assert all(re.search(rf"{row} +\d+ ", ended.output) for row in rows)
    assert re.search(rf"Aggregated +{len(server.bodies)} ", ended.output)


def test_two_workers_send_the_same_sessions(server: ChatServer, tmp_path: Path) -> None:
    """Split between them, in an open loop as in a closed one."""
    ended = run_distributed(
        *("--host", server.url, *TO_THE_END, "--rate", "50"), port=free_port(), report=tmp_path / "r.json"
    )
    assert ended.code == 0, ended.output
    assert in_order(server.bodies) == in_order(wanted(9, seed=5))
    assert ended.report is not None
    assert ended.report["complete"] == len(server.bodies)
    assert ended.report["sessions"] == 9


def test_each_worker_needs_a_user_in_a_closed_loop(server: ChatServer, tmp_path: Path) -> None:
    """Or its share of the sessions would never be sent."""
    ended = run_distributed("--host", server.url, "--sessions", "9", port=free_port(), report=tmp_path / "r.json")
    assert ended.code == 1
    assert "FAIL: -u 1: give each of the 2 workers a user" in ended.output


def test_a_missed_slo_is_named_and_fails_the_run(server: ChatServer) -> None:
    """With its row, its percentile, its value and its limit."""
    ended = run_locust("--host", server.url, *TO_THE_END, "--cold-ttft-slo-ms", "0.001", "--slo-percentile", "90")
    assert ended.code == 1
    assert re.search(r"FAIL: TTFT cold: p90 is \d+\.\d ms of 9 requests, p90 at most 0.001 ms was wanted", ended.output)


def test_what_is_shed_is_asked_again(server: ChatServer, tmp_path: Path) -> None:
    """By the users of a closed loop, after the time that the server says."""
    server.num_to_shed = 2
    ended = run_locust("--host", server.url, *TO_THE_END, report=tmp_path / "r.json")
    assert ended.code == 0, ended.output
    assert in_order(server.bodies) == in_order(wanted(9, seed=5))
    assert ended.report is not None
    assert (ended.report["shed"], ended.report["errors"]) == (2, {})
    assert re.search(r"POST +shed +2 ", ended.output)


def test_in_an_open_loop_what_is_shed_is_lost(server: ChatServer, tmp_path: Path) -> None:
    """Its session goes on."""
    server.num_to_shed = 2
    ended = run_locust("--host", server.url, *TO_THE_END, "--rate", "100", report=tmp_path / "r.json")
    assert ended.code == 0, ended.output
    assert len(server.bodies) == len(wanted(9, seed=5)) - 2
    assert ended.report is not None
    assert ended.report["sessions"] == 9


def test_errors_fail_the_run(server: ChatServer) -> None:
    """A status."""
    server.status = 500
    ended = run_locust("--host", server.url, *TO_THE_END, "--workload", "one_shot")
    assert ended.code == 1
    assert "FAIL: errors: 100.00% of the requests (500: 9), at most 0.00% was wanted" in ended.output


def test_a_cut_answer_is_an_error(server: ChatServer) -> None:
    """Though it began well."""
    server.is_cut = True
    ended = run_locust("--host", server.url, *TO_THE_END, "--workload", "one_shot")
    assert ended.code == 1
    assert "(cut: 9)" in ended.output


def test_a_server_that_is_not_there_ends_the_run() -> None:
    """With its address."""
    url = f"http://127.0.0.1:{free_port()}"
    ended = run_locust("--host", url, *TO_THE_END)
    assert ended.code == 1
    assert f"FAIL: {url} does not name its models (ConnectionRefusedError): is it up?" in ended.output


def test_a_run_needs_a_server() -> None:
    """Named."""
    ended = run_locust(*TO_THE_END)
    assert ended.code == 1
    assert "FAIL: no --host: give the server's URL" in ended.output


def test_wrong_arguments_end_it_before_it_begins(server: ChatServer) -> None:
    """In one line."""
    ended = run_locust("--host", server.url, "--rate", "-1")
    assert ended.code == 1
    assert ended.output.splitlines()[-1] == "error: --rate -1.0: give 0 or more"
    assert not server.bodies


def test_the_first_token_is_timed_before_the_second_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server holds back the rest until the first token has been timed: no reader waits for a block of bytes."""
    from loadtests.locust_kit.sender import LocustSender

    rest, read_line = threading.Event(), Exchange.read_line

    def note(record: Exchange, line: str, clock: Callable[[], float]) -> None:
        read_line(record, line, clock)
        rest.set()

    monkeypatch.setattr(Exchange, "read_line", note)
    with running_chat_server(ChatServer(before_rest=rest)) as server:
        sender = LocustSender(server.url, "demo")
        turn: Turn = session_at(0, Workload.ONE_SHOT, default_texts(), seed=1).turns[0]
        record = sender.send("one_shot", turn)
        sender.close()
    assert record.ttft_s is not None
    assert record.last_token_s is not None
    assert record.ttft_s < record.last_token_s
    assert record.answer_tokens == turn.body["max_tokens"]


def test_a_run_has_begun_before_its_server_answers() -> None:
    """Its page asks for the state, and would offer to start a run if there was none yet."""
    port, models = free_port(), threading.Event()
    with running_chat_server(ChatServer(before_models=models)) as server:
        process = start_locust("--host", server.url, "--web-host", "127.0.0.1", "--web-port", str(port))
        try:
            wait_for_port(port)
            with urlopen(f"http://127.0.0.1:{port}/swarm", data=b"user_count=1&spawn_rate=1") as response:
                assert response.status == 200
            assert server.was_asked_for_models.wait(timeout=10)
            with urlopen(f"http://127.0.0.1:{port}/stats/requests") as response:
                assert json.load(response)["state"] == "spawning"
        finally:
            models.set()
            process.terminate()
            end(process)

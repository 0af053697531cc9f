"""Starting and stopping on a machine that others use too."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from serve_app.local import cluster as local_cluster
from serve_app.local.cluster import RUN_VARIABLE, LocalRun, StartError, check_machine, num_replicas, stop
from serve_app.settings.cluster_secret import SECRET_VARIABLE
from serve_app.settings.schema import HttpSettings, LocalSettings, Settings

SLEEP = "import time; time.sleep(600)"
PARENT = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); print('up', flush=True); {SLEEP}"
)
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); {SLEEP}"


def start(code: str, run_id: str) -> subprocess.Popen[str]:
    """A process of a run, up when it returns."""
    environment = os.environ | {RUN_VARIABLE: run_id}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def make_run(tmp_path: Path, run_id: str) -> LocalRun:
    """A run whose owner has died."""
    (tmp_path / run_id).mkdir()
    return LocalRun(run_id, 2**22 + 1, 0.0, str(tmp_path / run_id), "app", "http://x", "http://y", "z", "", "m")


def test_stop_ends_exactly_the_processes_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children included, also those that ignore the polite signal; another run is left alone."""
    monkeypatch.setattr(local_cluster, "STOP_TIMEOUT_S", 2.0)
    run, state_file = make_run(tmp_path, "ours"), tmp_path / "run.json"
    run.save(state_file)
    with start(PARENT, "ours") as ours, start(STUBBORN, "ours") as stubborn, start(PARENT, "other") as other:
        child = psutil.Process(ours.pid).children()[0]
        try:
            stop(run, state_file=state_file)
            assert not any(psutil.pid_exists(pid) for pid in (ours.pid, stubborn.pid, child.pid))
            assert other.poll() is None
            assert not state_file.exists()
            assert not Path(run.run_dir).exists()
        finally:
            stop(make_run(tmp_path, "other"), state_file=tmp_path / "other.json")


def test_stop_finds_those_that_only_log_into_the_session(tmp_path: Path) -> None:
    """Ray's processes overwrite their environment; a session whose name merely begins alike is another's."""
    log = "import sys, time; log = open(sys.argv[1], 'w'); print('up', flush=True); time.sleep(600)"
    sessions = [tmp_path / "session_1", tmp_path / "session_12"]
    processes = []
    for session in sessions:
        session.mkdir()
        command = [sys.executable, "-c", log, str(session / "agent.log")]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    with processes[0] as ours, processes[1] as other:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        try:
            run = replace(make_run(tmp_path, "ours"), ray_session=str(sessions[0]))
            stop(run, state_file=tmp_path / "run.json")
            assert not psutil.pid_exists(ours.pid)
            assert other.poll() is None
        finally:
            other.kill()


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    """Other commands read what `serve` wrote."""
    run = make_run(tmp_path, "a")
    run.save(tmp_path / "deep" / "run.json")
    assert LocalRun.load(tmp_path / "deep" / "run.json") == run
    assert LocalRun.load(tmp_path / "absent.json") is None


def settings_with(port: int, *, memory_gib: float = 0.001) -> Settings:
    """Settings for a free machine."""
    return Settings(
        llm={"deployment_config": {"num_replicas": 2}},
        http=HttpSettings(port=port),
        local=LocalSettings(dashboard_port=port + 1, memory_per_replica_gib=memory_gib),
    )


def free_port() -> int:
    """One that nobody listens on, nor on the next."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def test_a_taken_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to do about it."""
    monkeypatch.setattr(local_cluster, "HAPROXY_PORTS", ())
    port = free_port()
    check_machine(settings_with(port))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        with pytest.raises(StartError, match=f"port {port} is taken on this machine: stop what listens"):
            check_machine(settings_with(port))


def test_too_little_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is free, what is wanted, and the setting."""
    monkeypatch.setattr(local_cluster, "HAPROXY_PORTS", ())
    with pytest.raises(StartError, match=r"GiB of memory are free, 200000.0 GiB are wanted: .*memory_per_replica_gib"):
        check_machine(settings_with(free_port(), memory_gib=100_000))
    with pytest.raises(StartError, match=r"600000.0 GiB are wanted for 3 applications: "):
        check_machine(settings_with(free_port(), memory_gib=100_000), num_applications=3)


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        ({}, 1),
        ({"num_replicas": 3}, 3),
        ({"num_replicas": "auto", "autoscaling_config": {"min_replicas": 2}}, 2),
        ({"autoscaling_config": {"min_replicas": 1, "initial_replicas": 4}}, 4),
    ],
)
def test_replicas_at_the_start(deployment: dict[str, object], expected: int) -> None:
    """As Serve counts them."""
    assert num_replicas(Settings(llm={"deployment_config": deployment})) == expected


def test_a_runs_secret_is_its_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command takes it, unless it was given one."""
    run = make_run(tmp_path, "kept")
    run.keep_secret("of this run")
    (kept,) = Path(run.run_dir).iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv(SECRET_VARIABLE, "given")
    run.take_secret()
    assert os.environ[SECRET_VARIABLE] == "given"
    monkeypatch.delenv(SECRET_VARIABLE)
    run.take_secret()
    assert os.environ[SECRET_VARIABLE] == "of this run"

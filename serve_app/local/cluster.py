"""A Ray cluster of our own on this machine: started, watched and stopped without touching any other.

Every process of it inherits `WARMROUTE_RUN` from the process that starts Ray. Stopping means: end exactly
the processes that carry this run's id, or log into this run's Ray session.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import psutil

from serve_app.control.environment import HAPROXY_PROGRAM, data_path_environment, local_environment
from serve_app.settings.cluster_secret import MIN_SECRET_CHARS, SECRET_VARIABLE
from serve_app.settings.schema import EngineName, Settings

RUN_VARIABLE = "WARMROUTE_RUN"
STATE_FILE = Path(".warmroute/run.json")
STOP_TIMEOUT_S = 10.0
HAPROXY_PORTS = (8404, 8500, 9101)
"""HAProxy's statistics, Serve's fallback proxy, HAProxy's metrics."""
LOOPBACK = "127.0.0.1"


class StartError(Exception):
    """The cluster cannot start; the message says what to do."""


class RunFileError(Exception):
    """The note of a running cluster cannot be read; the message says what to do."""


@dataclass(frozen=True, slots=True)
class LocalRun:
    """One running cluster, as its state file describes it."""

    run_id: str
    owner_pid: int
    owner_started_at: float
    run_dir: str
    application: str
    url: str
    dashboard_url: str
    ray_address: str
    ray_session: str
    model: str
    engine: EngineName = "vllm"

    @property
    def note(self) -> str:
        """A note for the heading of figures that were measured here."""
        return "" if self.engine == "vllm" else f" ({self.engine} engines)"

    def save(self, path: Path = STATE_FILE) -> None:
        """Leave a note for `warmroute stop` and the other commands."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2))

    def keep_secret(self, secret: str) -> None:
        """Keep the secret where this user's other commands find it, as those that ask a router do."""
        self._secret_path.touch(mode=0o600)
        self._secret_path.write_text(secret)

    def take_secret(self) -> None:
        """Let this process know the cluster's secret, unless it does, or the run is over."""
        with suppress(FileNotFoundError):
            os.environ.setdefault(SECRET_VARIABLE, self._secret_path.read_text())

    @property
    def _secret_path(self) -> Path:
        return Path(self.run_dir) / "secret"

    @classmethod
    def load(cls, path: Path = STATE_FILE) -> Self | None:
        """The noted run, or None when there is none.

        Raises:
            RunFileError: it was written by another version, or is damaged.

        """
        if not path.exists():
            return None
        try:
            return cls(**json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            msg = (
                f"{path} was written by another version of Warmroute ({error}): "
                "stop what it started with that version's `warmroute stop`, or end its processes and delete the file"
            )
            raise RunFileError(msg) from error


def check_machine(settings: Settings, *, num_applications: int = 1) -> None:
    """Refuse to start where it could not succeed.

    Args:
        settings: of each application.
        num_applications: with as many replicas each.

    Raises:
        StartError: a port is taken, there is too little free memory, or a program is missing.

    """
    ports = (settings.http.port, settings.local.dashboard_port, *HAPROXY_PORTS)
    taken = [port for port in ports if not _is_free(port)]
    if taken:
        msg = (
            f"port {', '.join(map(str, taken))} is taken on this machine: stop what listens there "
            "(`warmroute stop` if it is an earlier run), or set http.port or local.dashboard_port"
        )
        raise StartError(msg)
    program = Path(sys.executable).with_name(HAPROXY_PROGRAM)
    if settings.edge.enabled and not program.exists():
        msg = f"{program} is missing: install Warmroute again (`make install`), or set edge.enabled to false"
        raise StartError(msg)
    wanted_gib = settings.local.memory_per_replica_gib * num_replicas(settings) * num_applications
    free_gib = psutil.virtual_memory().available / 2**30
    if free_gib < wanted_gib:
        many = f" for {num_applications} applications" if num_applications > 1 else ""
        msg = (
            f"{free_gib:.1f} GiB of memory are free, {wanted_gib:.1f} GiB are wanted{many}: free some, run fewer "
            "replicas (llm.deployment_config.num_replicas), or lower local.memory_per_replica_gib if you know better"
        )
        raise StartError(msg)


def num_replicas(settings: Settings) -> int:
    """Replicas at the start."""
    deployment = settings.llm.get("deployment_config", {})
    autoscaling = deployment.get("autoscaling_config") or {}
    initial = autoscaling.get("initial_replicas") or autoscaling.get("min_replicas") or 1
    count = deployment.get("num_replicas", initial)
    return int(initial if count == "auto" else count)


def start_ray(settings: Settings) -> LocalRun:
    """Start Ray in and below this process, on the data path. The caller must `stop` the run.

    Raises:
        StartError: Ray did not start.

    """
    run = LocalRun(
        run_id=uuid.uuid4().hex[:12],
        owner_pid=os.getpid(),
        owner_started_at=psutil.Process().create_time(),
        run_dir=tempfile.mkdtemp(prefix="warmroute-"),  # a short path: it holds sockets
        application=settings.name,
        model=settings.model_id,
        engine=settings.engine,
        url=f"http://127.0.0.1:{settings.http.port}{settings.route_prefix.rstrip('/')}",
        dashboard_url=f"http://127.0.0.1:{settings.local.dashboard_port}",
        ray_address="",
        ray_session="",
    )
    run.save()
    os.environ |= _environment(settings, run)
    import ray  # reads the environment when imported

    try:
        context = ray.init(
            address="local",
            num_cpus=settings.local.num_cpus,
            object_store_memory=int(settings.local.object_store_gib * 2**30),
            include_dashboard=True,
            dashboard_port=settings.local.dashboard_port,
            log_to_driver=False,
            logging_level="error",
        )
    except (OSError, RuntimeError, ValueError) as error:
        stop(run)
        raise StartError(f"Ray did not start: {error}") from error
    address = context.address_info
    run = replace(run, ray_address=address["gcs_address"], ray_session=address["session_dir"])
    run.save()
    return run


def _environment(settings: Settings, run: LocalRun) -> dict[str, str]:
    """The environment of every process of the run."""
    http = settings.http.model_copy(update={"host": settings.http.host or LOOPBACK})
    settings = settings.model_copy(update={"http": http})
    secret = os.environ.get(SECRET_VARIABLE) or secrets.token_hex(MIN_SECRET_CHARS)
    run.keep_secret(secret)
    return {
        **data_path_environment(settings, programs=Path(sys.executable).parent),
        **local_environment(Path(run.run_dir)),
        RUN_VARIABLE: run.run_id,
        SECRET_VARIABLE: secret,
    }


def stop(run: LocalRun, *, state_file: Path = STATE_FILE) -> None:
    """End every process of the run, first kindly, then not, and remove its files.

    Called by the owner itself, or from elsewhere; then the owner is asked first and given time to do it.
    """
    # To SIGTERM, Ray's own handler in the owner would write a trace, and abort it.
    _end([process for process in _processes_of(run) if process.pid == run.owner_pid], ask=_interrupt)
    while left := _processes_of(run):  # a dying parent may still have forked
        _end(left)
    shutil.rmtree(run.run_dir, ignore_errors=True)
    state_file.unlink(missing_ok=True)


def _interrupt(process: psutil.Process) -> None:
    process.send_signal(signal.SIGINT)


def _end(
    processes: list[psutil.Process], *, ask: Callable[[psutil.Process], object] = psutil.Process.terminate
) -> None:
    _signal(processes, ask)
    _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT_S)
    _signal(alive, psutil.Process.kill)
    psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)


def _processes_of(run: LocalRun) -> list[psutil.Process]:
    """Every live process of the run but this one and its ancestors."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.pid not in ours and _is_alive(process) and _is_of_run(process, run):
                found.append(process)
    return found


def _is_of_run(process: psutil.Process, run: LocalRun) -> bool:
    if process.pid == run.owner_pid and process.create_time() == run.owner_started_at:
        return True
    if process.environ().get(RUN_VARIABLE) == run.run_id:
        return True
    # Ray's processes set their own titles, which overwrites their environment; but they log into the session's folder.
    session = Path(run.ray_session)
    return bool(run.ray_session) and any(session in Path(file.path).parents for file in process.open_files())


def _is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _signal(processes: Iterable[psutil.Process], action: Callable[[psutil.Process], object]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            action(process)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("0.0.0.0", port))  # noqa: S104  where HAProxy will listen
        except OSError:
            return False
    return True

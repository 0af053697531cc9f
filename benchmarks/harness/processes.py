"""The processes behind a running application, told by their titles: actors, engines, HAProxy."""

from collections.abc import Sequence
from contextlib import suppress

import psutil

from benchmarks.harness.errors import MeasurementError

ENGINE_TITLE = "EngineCore"
ACTOR_TITLE = "ray::"
HAPROXY = "haproxy"


class ProcessError(MeasurementError):
    """There is no such process; nothing was killed."""


def is_engine(command_line: Sequence[str]) -> bool:
    """Whether this is vLLM's engine process."""
    return any(ENGINE_TITLE in part for part in command_line)


def is_actor(command_line: Sequence[str]) -> bool:
    """Whether this is a Ray actor."""
    return bool(command_line) and command_line[0].startswith(ACTOR_TITLE)


def is_haproxy(command_line: Sequence[str], run_dir: str) -> bool:
    """Whether this is an HAProxy of the run whose files are in this folder."""
    return bool(command_line) and HAPROXY in command_line[0] and any(run_dir in part for part in command_line[1:])


def actor(pid: int) -> psutil.Process:
    """The process of a replica's or router's actor.

    Raises:
        ProcessError: there is none, or it is another process by now.

    """
    try:
        process = psutil.Process(pid)
        title = process.cmdline()
    except psutil.Error as error:
        raise ProcessError(f"there is no process {pid} any more") from error
    if not is_actor(title):
        raise ProcessError(f"process {pid} is no Ray actor but {' '.join(title)[:80]!r}")
    return process


def engines(actor_process: psutil.Process) -> list[psutil.Process]:
    """The engine processes below a replica's actor."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in actor_process.children(recursive=True):
            with suppress(psutil.Error):
                if is_engine(child.cmdline()):
                    found.append(child)
    return found


def haproxies(run_dir: str) -> list[psutil.Process]:
    """Every HAProxy of a run; there are several while old connections outlive a reload."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if is_haproxy(process.cmdline(), run_dir):
                found.append(process)
    return found


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds that the process has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def rss_mib(processes: Sequence[psutil.Process]) -> float | None:
    """Their resident memory together; None when none is left."""
    sizes = []
    for process in processes:
        with suppress(psutil.Error):
            sizes.append(process.memory_info().rss / 2**20)
    return sum(sizes) if sizes else None

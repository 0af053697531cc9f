"""Processes beside HAProxy, which end with it."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent ends."""


def start_beside(module: str, *arguments: Path) -> None:
    """Run a module in a child of this process, which becomes HAProxy."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    subprocess.Popen(command, preexec_fn=_end_with_parent)  # noqa: PLW1509, S603  one thread here; own command


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:  # it has ended already
        os.kill(os.getpid(), signal.SIGTERM)

"""Where the measurement runs: on which GPU, or on this machine's CPU for a dry run."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.errors import MeasurementError

QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What computes."""

    name: str
    """The GPU with its memory, or the CPU with its cores."""
    driver: str | None
    """The GPU's driver; None without a GPU."""

    def __str__(self) -> str:
        return self.name if self.driver is None else f"{self.name}, driver {self.driver}"

    @property
    def has_gpu(self) -> bool:
        """Whether a GPU computes."""
        return self.driver is not None

    @property
    def shared_by(self) -> str:
        """What several engines have between them."""
        return "one GPU" if self.has_gpu else "this machine's cores"


def find_machine() -> Machine:
    """The first GPU that engines may see, by `nvidia-smi`; the CPU where there is no such command.

    Raises:
        MeasurementError: the command is there and fails.

    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return Machine(f"CPU: {_processor()}, {os.cpu_count()} cores", driver=None)
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0] or "0"
    result = subprocess.run(  # noqa: S603  the driver's own program
        [program, f"--id={gpu}", *QUERY], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    parts = [part.strip() for part in result.stdout.strip().split(",")]
    if result.returncode or len(parts) != 3:  # noqa: PLR2004  as asked for
        raise MeasurementError(f"nvidia-smi says nothing of GPU {gpu}: {(result.stderr or result.stdout).strip()}")
    name, memory, driver = parts
    return Machine(f"{name}, {memory}", driver)


def _processor() -> str:
    """Linux knows its name; elsewhere the kind must do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())

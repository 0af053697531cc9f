"""Make `.venv` and install the locked CPU set into it; with `--lock`, renew the lock. Standard library only.

uv does the work, because it is several times faster than pip. It is told of the package indexes that
pip is configured with on this machine, so that both see the same ones. CPU builds of torch are not on
PyPI: where the configured indexes lack the locked one, PyTorch's own index for CPU wheels has it.
"""

import hashlib
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements-cpu.lock"
STAMP = VENV / "installed.sha256"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
PIP_TO_UV_OPTION = {"index-url": "--index-url", "extra-index-url": "--index", "find-links": "--find-links"}


class InstallError(Exception):
    """What went wrong and what to do, in one sentence."""


def main() -> None:
    """Install what is locked, unless that is what is installed."""
    check_python()
    if STAMP.exists() and STAMP.read_text() == fingerprint():
        return
    started = time.monotonic()
    print(f"==> Installing {num_locked()} locked packages into .venv (about 1.2 GB; a minute or a few)", flush=True)
    if not PYTHON.exists() or version_of(PYTHON) != sys.version_info[:2]:
        venv.create(VENV, with_pip=True, clear=VENV.exists())
    run([PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "uv"], "pip could not install uv")
    indexes = configured_indexes()
    install_torch(indexes)
    uv([*indexes, "--no-deps", "--requirement", LOCK], "the locked packages could not be installed")
    uv(["--no-deps", "--no-build-isolation", "--editable", ROOT], "Warmroute itself could not be installed")
    print(f"==> Installed in {time.monotonic() - started:.0f} s", flush=True)
    STAMP.write_text(fingerprint())


def lock() -> None:
    """Resolve pyproject.toml again. Torch is left out: its hash and its index differ from machine to machine."""
    command: list[object] = [VENV / "bin" / "uv", "pip", "compile", ROOT / "pyproject.toml", *configured_indexes()]
    command += [
        "--extra",
        "cpu",
        "--extra",
        "load",
        "--extra",
        "audit",
        "--extra",
        "dev",
        "--python-version",
        "3.11",
        "--generate-hashes",
        "--upgrade",
    ]
    command += ["--no-emit-package", "torch", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--no-annotate", "--no-header", "--quiet", "--output-file", LOCK]
    run(command, "the lock could not be made")


def check_python() -> None:
    """The lock fits the versions that CI tests; an environment of another version is not reused."""
    if sys.version_info[:2] not in {(3, 11), (3, 12)}:
        found = ".".join(map(str, sys.version_info[:3]))
        message = f"Python 3.11 or 3.12 is needed and {sys.executable} is {found}: run make PYTHON=/path/to/python3.11"
        raise InstallError(message)


def version_of(python: Path) -> tuple[int, ...]:
    """Major and minor version of an interpreter."""
    code = "import sys; print(*sys.version_info[:2])"
    printed = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    return tuple(map(int, printed.split()))


def num_locked() -> int:
    """Number of packages in the lock."""
    return sum("==" in line for line in LOCK.read_text().splitlines())


def fingerprint() -> str:
    """A hash of everything that decides what is installed."""
    content = LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode() + sys.version.encode()
    return hashlib.sha256(content).hexdigest()


def install_torch(indexes: list[str]) -> None:
    """From the configured indexes, or else from PyTorch's."""
    torch = re.search(r'"(torch==[^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert torch is not None
    requirement = [torch[1], "--no-deps"]
    if uv_succeeds([*indexes, *requirement]):
        return
    failure = (
        f"{torch[1]} is neither on the configured package indexes nor to be had from {TORCH_INDEX}: "
        "allow access to one of them, or add an index that has it to pip's configuration"
    )
    uv(["--index-url", TORCH_INDEX, *requirement], failure)


def configured_indexes() -> list[str]:
    """Pip's indexes, as uv's options."""
    command = [str(PYTHON), "-m", "pip", "config", "list"]
    return as_uv_options(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def as_uv_options(pip_config: str) -> list[str]:
    """From the lines of `pip config list`."""
    options: list[str] = []
    for line in pip_config.splitlines():
        key, _, value = line.partition("=")
        option = PIP_TO_UV_OPTION.get(key.rpartition(".")[2])
        if option is not None:
            for location in value.strip("'\" ").split():
                options += [option, location]
    # As pip does: the best version, wherever it is.
    return [*options, "--index-strategy", "unsafe-best-match"]


def uv(arguments: list[object], failure: str) -> None:
    """`uv pip install`; what it prints is shown only if it fails."""
    result = uv_result(arguments)
    if result.returncode != 0:
        sys.stderr.write(result.stderr)
        raise InstallError(failure)


def uv_succeeds(arguments: list[object]) -> bool:
    """Whether `uv pip install` goes well."""
    return uv_result(arguments).returncode == 0


def uv_result(arguments: list[object]) -> subprocess.CompletedProcess[str]:
    """Run `uv pip install`; a terminal shows the seconds that it takes."""
    started = time.monotonic()
    command = [*map(str, [*uv_install(), *arguments])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while True:
            try:
                output, errors = process.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                show_seconds(time.monotonic() - started)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def show_seconds(seconds: float) -> None:
    """Update the last line of a terminal; a log file needs none."""
    if sys.stdout.isatty():
        print(f"    {seconds:.0f} s\r", end="", flush=True)


def uv_install() -> list[object]:
    """The command."""
    return [VENV / "bin" / "uv", "pip", "install", "--python", PYTHON, "--compile-bytecode"]


def run(command: list[object], failure: str) -> None:
    """Run a command; its own output explains, our sentence sums up."""
    if subprocess.run([*map(str, command)], check=False).returncode != 0:
        raise InstallError(failure)


if __name__ == "__main__":
    try:
        lock() if "--lock" in sys.argv else main()
    except InstallError as error:
        sys.exit(f"error: {error}")

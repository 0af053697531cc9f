"""How a report was made: the command, the versions and the machine, without the machine's name."""

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil


def command_line() -> str:
    """What was typed, without the folders of Python and of scripts."""
    if Path(sys.argv[0]).name == "__main__.py" and "-m" in sys.orig_argv:
        return shlex.join(["python", *sys.orig_argv[sys.orig_argv.index("-m") :]])
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """The versions that every number depends on."""
    own = package_versions(("warmroute",)).get("warmroute", "not installed")  # run from a source tree
    return {"warmroute": own, "python": platform.python_version(), "machine": platform.machine()}


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> Mapping[str, str]:
    """The machine's size and kind."""
    return {
        "CPUs": f"{os.cpu_count()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }

"""Where a measurement ran, as its report says."""

import os
from pathlib import Path

import pytest

from benchmarks.harness import machine
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.machine import find_machine


def install_nvidia_smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of ours under that name."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_gpu_is_named_with_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one that engines see first."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    install_nvidia_smi(tmp_path, '[ "$1" = --id=3 ] && echo "NVIDIA H100, 81559 MiB, 580.1"', monkeypatch)
    found = find_machine()
    assert (found.name, found.driver, found.has_gpu, found.shared_by) == (
        "NVIDIA H100, 81559 MiB",
        "580.1",
        True,
        "one GPU",
    )


def test_a_driver_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run on the CPU instead would not be what was asked for."""
    install_nvidia_smi(tmp_path, "echo no devices were found >&2; exit 6", monkeypatch)
    with pytest.raises(MeasurementError, match="no devices were found"):
        find_machine()


def test_without_a_driver_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which several engines share by its cores."""
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    found = find_machine()
    assert found.name.startswith("CPU: ")
    assert (found.has_gpu, found.shared_by) == (False, "this machine's cores")

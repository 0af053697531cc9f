"""How a report was made."""

import sys

import pytest

from loadtests.report.origin import command_line, package_versions


@pytest.mark.parametrize(
    ("original", "arguments", "shown"),
    [
        (
            ["/some/where/python3", "-m", "benchmarks", "gpu", "--json", "a b"],
            ["/some/where/benchmarks/__main__.py", "gpu", "--json", "a b"],
            "python -m benchmarks gpu --json 'a b'",
        ),
        (
            ["/some/where/python3", "/some/where/bin/warmroute", "replay", "trace"],
            ["/some/where/bin/warmroute", "replay", "trace"],
            "warmroute replay trace",
        ),
    ],
)
def test_the_command_is_repeated_without_this_machines_paths(
    monkeypatch: pytest.MonkeyPatch, original: list[str], arguments: list[str], shown: str
) -> None:
    """As a module and as a script; options with blanks are quoted."""
    monkeypatch.setattr(sys, "orig_argv", original)
    monkeypatch.setattr(sys, "argv", arguments)
    assert command_line() == shown


def test_versions_are_of_what_is_installed() -> None:
    """A package that is absent has none."""
    assert package_versions(("pytest", "no-such-package")).keys() == {"pytest"}

"""The experiment with deviating replicas, without a server."""

from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks.live.parity_alarms import Alarm, alarm_table
from serve_app.parity.verdicts import Verdict

GOOD = Alarm(
    deviation=Verdict.SALT,
    found=("salt", "salt"),
    alarm_s=1.5,
    ok_s=0.5,
    answered_there=20,
    outcomes={"complete": 300},
)


def test_an_alarm_in_time_is_no_fault() -> None:
    """Nor is it where it takes the whole period."""
    assert GOOD.faults(period_s=1.5) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"found": ("salt", "ok")}, "salt: the routers found salt, ok"),
        ({"found": ()}, "salt: the routers found nothing"),
        ({"found": ("template", "template")}, "salt: the routers found template, template"),
        ({"alarm_s": 61.0}, "salt: noticed after 61.0 s"),
        ({"alarm_s": None}, "salt: noticed after never"),
        ({"ok_s": None}, "salt: its successor is not ok"),
        ({"answered_there": 0}, "salt: the replica answered nothing"),
        ({"outcomes": {"complete": 1, "503": 2}}, "salt: requests ended otherwise: 503: 2, complete: 1"),
    ],
)
def test_each_fault_is_named(changes: dict[str, object], fault: str) -> None:
    """Alone."""
    assert replace(GOOD, **changes).faults(period_s=60) == [fault]


def test_the_table_has_a_line_for_each_deviation() -> None:
    """With what was not complete counted."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(alarm_table([GOOD, replace(GOOD, outcomes={"complete": 298, "503": 2})]))
    lines = [line for line in capture.get().splitlines() if "salt, salt" in line]
    assert [line.split()[-2] for line in lines] == ["0", "2"]

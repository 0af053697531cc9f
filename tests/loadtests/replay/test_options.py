"""What the commands are told in text."""

from pathlib import Path

import pytest

from loadtests.replay.fleet import ChangeKind, MembershipChange
from loadtests.replay.options import OptionError, read_change, read_numbers, read_policies, read_tenants


def test_policies_are_names() -> None:
    """Each once, in order."""
    assert read_policies("least_loaded, prefix_affinity,least_loaded") == ("least_loaded", "prefix_affinity")
    with pytest.raises(OptionError, match=r"--policy foo does not exist: use one or more of prefix_affinity, "):
        read_policies("least_loaded,foo")


def test_numbers_are_in_order() -> None:
    """Each once."""
    assert read_numbers("--sweep", "1.2,0.4,1.2") == (0.4, 1.2)


@pytest.mark.parametrize("text", ["", "a", "1,", "1;2"])
def test_other_lists_are_refused(text: str) -> None:
    """With the option's name."""
    with pytest.raises(OptionError, match=r"--sweep .* is not a list of numbers"):
        read_numbers("--sweep", text)


@pytest.mark.parametrize("text", ["0", "1,-2", "inf", "nan"])
def test_only_numbers_above_zero_are_loads(text: str) -> None:
    """And finite ones."""
    with pytest.raises(OptionError, match=r"--sweep .* has a number that is not above 0"):
        read_numbers("--sweep", text)


def test_tenants_are_weights_or_clients(tmp_path: Path) -> None:
    """None for one tenant."""
    path = tmp_path / "clients.csv"
    path.write_text("model,client,mean_rate_rps\nm,7,0.5\n")
    assert read_tenants(None) == ()
    assert read_tenants("5,1") == (("tenant-0", 5), ("tenant-1", 1))
    assert read_tenants(f"{path}:m") == (("client-7", 0.5),)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b", "neither weights"), ("1,-1", "not below 0"), ("0", "not below 0"), ("nan", "not below 0")],
)
def test_other_tenants_are_refused(text: str, message: str) -> None:
    """With what is expected."""
    with pytest.raises(OptionError, match=message):
        read_tenants(text)


def test_a_change_is_what_whom_and_when() -> None:
    """In one word."""
    assert read_change("crash:3@120.5") == MembershipChange(120.5, ChangeKind.CRASH, 3)


@pytest.mark.parametrize("text", ["crash", "crash:3", "crash:a@1", "explode:3@1", "crash:3@-1", "crash:3@nan"])
def test_other_changes_are_refused(text: str) -> None:
    """With the option's name and the value."""
    with pytest.raises(OptionError, match=f"--change {text}"):
        read_change(text)

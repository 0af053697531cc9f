"""The locustfile's arguments."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from loadtests.locust_kit.options import OptionsError, RateOf, RunOptions, add_arguments
from loadtests.locust_kit.slo import Slo
from loadtests.workloads import TextsError, Workload, default_texts
from tests.loadtests.locust_kit.builders import options


def test_by_default_users_have_a_mix_of_sessions_one_after_the_other() -> None:
    """With pauses as recorded, without end, and without SLOs, but no request may fail."""
    read = options()
    assert (read.workload, read.rate, read.num_sessions, read.slos) == (Workload.MIX, 0, 0, ())
    assert (read.think_scale, read.max_error_share, read.model) == (1, 0, "")
    assert read.read_texts() == default_texts()


def test_arguments_are_read() -> None:
    """An SLO for each limit that is not 0."""
    read = options(
        *("--workload", "agents", "--seed", "7", "--rate", "2.5", "--rate-of", "requests", "--sessions", "40"),
        *("--warm-ttft-slo-ms", "200", "--slo-percentile", "90"),
    )
    assert (read.workload, read.seed, read.rate, read.rate_of) == (Workload.AGENTS, 7, 2.5, RateOf.REQUESTS)
    assert read.num_sessions == 40
    assert read.slos == (Slo("TTFT warm", 90, 200),)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--rate", "-1"), "--rate -1.0: give 0 or more"),
        (("--slo-percentile", "100"), "--slo-percentile 100: give 1 to 99"),
        (("--max-error-share", "2"), "--max-error-share 2.0: give 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, str], complaint: str) -> None:
    """With what can be."""
    with pytest.raises(OptionsError, match=complaint):
        options(*arguments)


def written_on_the_page(**values: str) -> Namespace:
    """Text, whatever the default was."""
    parser = ArgumentParser()
    add_arguments(parser)
    return Namespace(**(vars(parser.parse_args([])) | values))


def test_what_the_page_writes_is_text() -> None:
    """Which is read, or refused with the flag's name."""
    assert RunOptions.read(written_on_the_page(rate="3", sessions="5")).rate == 3
    with pytest.raises(OptionsError, match="--think-scale fast: give a number"):
        RunOptions.read(written_on_the_page(think_scale="fast"))
    with pytest.raises(OptionsError, match="--workload chats: choose one of chat, agents, rag, one_shot, mix"):
        RunOptions.read(written_on_the_page(workload="chats"))


def test_texts_come_from_a_file(tmp_path: Path) -> None:
    """Or are complained about."""
    with pytest.raises(TextsError, match="neither a file nor"):
        options("--texts", str(tmp_path / "absent.jsonl")).read_texts()

"""`python -m benchmarks decision`: runs what is missing, keeps it, and judges."""

from pathlib import Path

from typer.testing import CliRunner, Result

from benchmarks.virtual.decision.command import app


def decide(out: Path, *arguments: str) -> Result:
    """Two policies on the smallest workload."""
    common = ["workloads", "--out", str(out), "--only", "burst", "--duration-s", "20", "--seeds", "1", "--jobs", "1"]
    return CliRunner().invoke(app, [*common, *arguments], env={"COLUMNS": "240"})


def test_results_are_kept_and_used_again(tmp_path: Path) -> None:
    """What another tag, policy or seed needs is run, and nothing else; rivals may have a tag of their own."""
    out = tmp_path / "results.jsonl"
    first = decide(out, "--tag", "a", "--policies", "prefix_affinity,least_loaded")
    assert (first.exit_code, len(out.read_text().splitlines())) == (0, 2)
    assert "0 of 2 results are in" in first.stderr
    again = decide(out, "--tag", "a", "--policies", "prefix_affinity,least_loaded")
    assert "2 of 2 results are in" in again.stderr
    assert first.stdout == again.stdout
    newer = decide(out, "--tag", "b", "--rivals-tag", "a", "--policies", "prefix_affinity,least_loaded")
    assert "1 of 2 results are in" in newer.stderr
    assert len(out.read_text().splitlines()) == 3


def test_ours_is_judged_against_the_rival(tmp_path: Path) -> None:
    """With a ratio for each metric and a verdict; without a rival there is none."""
    out = tmp_path / "results.jsonl"
    together = decide(out, "--tag", "a", "--policies", "prefix_affinity,least_loaded")
    assert "least_loaded" in together.stdout
    assert "1 PASS, 0 FAIL" in together.stdout or "0 PASS, 1 FAIL" in together.stdout
    alone = decide(out, "--tag", "a", "--policies", "prefix_affinity", "--show-only", "--brief")
    assert "0 PASS, 0 FAIL, 1 without a rival" in alone.stdout
    assert "all numbers" not in alone.stdout


def test_the_waiting_order_is_an_option(tmp_path: Path) -> None:
    """By default every rival's own; the title says which, and results of one order are none of the other's."""
    out = tmp_path / "results.jsonl"
    options = ("--tag", "a", "--policies", "prefix_affinity,least_loaded", "--brief")
    assert "(waiting order arrival)" in decide(out, *options).stdout
    shortest = decide(out, *options, "--waiting-order", "shortest").output
    assert "0 of 2 results are in" in shortest
    assert "(waiting order shortest)" in shortest
    assert "2 of 2 results are in" in decide(out, *options, "--waiting-order", "arrival").stderr


def test_it_is_said_when_seeds_differ(tmp_path: Path) -> None:
    """As after an interruption: ours with two seeds, the rival with one."""
    out = tmp_path / "results.jsonl"
    decide(out, "--tag", "a", "--policies", "prefix_affinity,least_loaded")
    decide(out, "--tag", "a", "--policies", "prefix_affinity", "--seeds", "1,2")
    options = ("--policies", "prefix_affinity,least_loaded", "--show-only")
    assert "(seeds differ)" in decide(out, "--tag", "a", "--seeds", "1,2", *options).stdout
    assert "(seeds differ)" not in decide(out, "--tag", "a", *options).stdout


def test_names_are_listed(tmp_path: Path) -> None:
    """And nothing is run."""
    assert decide(tmp_path / "results.jsonl", "--tag", "a", "--list").stdout == "workloads: burst\n"
    assert not (tmp_path / "results.jsonl").exists()


def test_wrong_options_say_what_is_wrong(tmp_path: Path) -> None:
    """In one line, with status 1."""
    for arguments, message in (
        (("--policies", "nobody"), "--policy nobody does not exist"),
        (("--only", "nowhere"), "--only nowhere leaves no situation"),
        (("--only", "("), "--only ( is no regular expression"),
        (("--seeds", "1,x"), "--seeds 1,x is not a list of whole numbers"),
    ):
        result = decide(tmp_path / "results.jsonl", "--tag", "a", *arguments)
        assert result.exit_code == 1
        assert message in result.output

"""`python -m benchmarks decision`: runs what is missing, keeps it, and judges."""

from pathlib import Path

from typer.testing import CliRunner, Result

from benchmarks.virtual.decision.command import app


def decide(out: Path, *arguments: str) -> Result:
    """Two policies on the smallest workload."""
    common = ["workloads", "--out", str(out), "--only", "burst", "--duration-s", "20", "--seeds", "1", "--jobs", "1"]
    return CliRunner().invoke(app, [*common, *arguments], env={"COLUMNS": "240"})


def test_results_are_kept_and_used_again(tmp_path: Path) -> None:
    """What another policy or seed needs is run, and nothing else."""
    out = tmp_path / "results.jsonl"
    first = decide(out, "--policies", "prefix_affinity,least_loaded")
    assert first.exit_code == 0
    assert "0 of 2 results are in" in first.stderr
    again = decide(out, "--policies", "prefix_affinity,least_loaded")
    assert "2 of 2 results are in" in again.stderr
    assert first.stdout == again.stdout
    assert "2 of 3 results are in" in decide(out, "--policies", "prefix_affinity,least_loaded,chwbl").stderr


def test_ours_is_judged_against_the_rival(tmp_path: Path) -> None:
    """With a ratio for each metric and a verdict; without a rival there is none."""
    out = tmp_path / "results.jsonl"
    together = decide(out, "--policies", "prefix_affinity,least_loaded")
    assert "least_loaded" in together.stdout
    assert "1 PASS, 0 FAIL" in together.stdout or "0 PASS, 1 FAIL" in together.stdout
    alone = decide(out, "--policies", "prefix_affinity")
    assert "0 PASS, 0 FAIL, 1 not judged" in alone.stdout


def test_names_are_listed(tmp_path: Path) -> None:
    """And nothing is run."""
    assert decide(tmp_path / "results.jsonl", "--list").stdout == "workloads: burst\n"
    assert not (tmp_path / "results.jsonl").exists()


def test_wrong_options_say_what_is_wrong(tmp_path: Path) -> None:
    """In one line, with status 1."""
    for arguments, message in (
        (("--policies", "nobody"), "--policy nobody does not exist"),
        (("--only", "nowhere"), "--only nowhere leaves no situation"),
        (("--only", "("), "--only ( is no regular expression"),
        (("--seeds", "1,x"), "--seeds 1,x is not a list of whole numbers"),
    ):
        result = decide(tmp_path / "results.jsonl", *arguments)
        assert result.exit_code == 1
        assert message in result.output

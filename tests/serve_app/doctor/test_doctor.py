"""The command, without a cluster: what it prints, and what it asks for."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.doctor.finding import Check, Finding, Problem, Status, failed, ok
from serve_app.doctor.report import as_json, line
from serve_app.doctor.target import Target, TargetError, find_target
from serve_app.local.cluster import LocalRun
from warmroute.cli import app

runner = CliRunner()
DEAD = "http://127.0.0.1:9"
ELSEWHERE = ["--dashboard", DEAD, "--url", DEAD, "--ray-address", "127.0.0.1:9"]
RUN = LocalRun("id", 1, 0.0, "dir", "app", "http://127.0.0.1:8000", "http://127.0.0.1:8265", "127.0.0.1:6379", "", "m")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing was started from here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestCommand:
    """Exit status and output."""

    def test_a_dead_cluster_is_explained_in_a_few_lines(self) -> None:
        """A line for each check, no traceback, status 1."""
        result = runner.invoke(app, ["doctor", *ELSEWHERE])
        assert result.exit_code == 1
        lines = result.output.splitlines()
        assert len(lines) == len(Check)
        assert [line.split()[0] for line in lines].count("failed") == 3
        assert lines[0].startswith("failed   application  no answer from the Ray dashboard at http://127.0.0.1:9")
        assert lines[-1] == "skipped  tiers        waits for: routers"

    def test_json_is_all_that_is_printed(self) -> None:
        """So that it can be piped."""
        result = runner.invoke(app, ["doctor", "--json", *ELSEWHERE])
        assert result.exit_code == 1
        findings = json.loads(result.output)
        assert [finding["check"] for finding in findings] == list(Check)
        assert findings[1]["text"] == "cannot join the Ray cluster at 127.0.0.1:9: Connection refused"
        assert findings[1]["status"] == "failed"
        assert "--ray-address" in findings[1]["remedy"]

    def test_without_a_cluster_both_ways_are_told(self) -> None:
        """Start one here, or name another."""
        result = runner.invoke(app, ["doctor"])
        assert result.exit_code == 1
        assert "no cluster was started from this folder: run `warmroute serve CONFIG`" in result.output
        assert "--dashboard and --url" in result.output

    def test_the_cluster_started_here_is_found(self, empty_folder: Path) -> None:
        """By the file that `serve` left."""
        run = LocalRun("id", 1, 0.0, "dir", "app", DEAD, DEAD, "127.0.0.1:9", "", "m")
        run.save(empty_folder / ".warmroute" / "run.json")
        result = runner.invoke(app, ["doctor"])
        assert result.exit_code == 1
        assert "no one accepts connections at http://127.0.0.1:9" in result.output


class TestTarget:
    """What is examined."""

    def test_options_complete_the_local_run(self) -> None:
        """Each may be replaced by itself; a client's /v1 is understood."""
        nothing = {"application": None, "url": None, "dashboard_url": None, "ray_address": None}
        assert find_target(RUN, **nothing) == Target("app", RUN.url, RUN.dashboard_url, RUN.ray_address)
        other = nothing | {"application": "other", "url": "http://127.0.0.1:1/v1/"}
        assert find_target(RUN, **other) == Target("other", "http://127.0.0.1:1", RUN.dashboard_url, RUN.ray_address)

    def test_another_cluster_takes_nothing_from_the_local_run(self) -> None:
        """Neither application nor Ray's address."""
        target = find_target(RUN, application=None, url=DEAD, dashboard_url="http://head:8265", ray_address=None)
        assert target == Target("warmroute", DEAD, "http://head:8265", "auto")

    @pytest.mark.parametrize(
        ("url", "dashboard_url", "message"),
        [
            (None, "http://head:8265", "say with --url where its clients connect"),
            ("127.0.0.1:8000", None, "--url 127.0.0.1:8000 is not a URL"),
            ("http://127.0.0.1:port", None, "--url http://127.0.0.1:port is not a URL"),
            ("http://", None, "--url http:// is not a URL"),
            (DEAD, "head:8265", "--dashboard head:8265 is not a URL"),
        ],
    )
    def test_unusable_options_are_named(self, url: str | None, dashboard_url: str | None, message: str) -> None:
        """With their value."""
        with pytest.raises(TargetError, match=message):
            find_target(RUN, application=None, url=url, dashboard_url=dashboard_url, ray_address=None)


class TestReport:
    """Lines and JSON."""

    def test_a_line_reads_without_colour(self) -> None:
        """Two columns, then sentences."""
        assert line(ok(Check.VERSIONS, "ray 2.60.0 on 3 nodes")).plain == "ok       versions     ray 2.60.0 on 3 nodes"
        finding = failed(Check.PORTS, Problem("a is\nclosed", "Open a."), Problem("is b?", "Open a."))
        assert line(finding).plain == "failed   ports        a is closed; is b? Open a."
        finding = failed(Check.PORTS, Problem("a", "Do x."), Problem("b", "Do y."))
        assert line(finding).plain == "failed   ports        a; b. Do x. Do y."

    def test_brackets_are_no_markup(self) -> None:
        """Engines' messages are full of them."""
        assert "[red]" in line(ok(Check.PORTS, "[red]")).plain

    def test_json_has_every_field(self) -> None:
        """As the finding has it."""
        finding = Finding(Check.HARD_STOP, Status.OK, "text")
        expected = {"check": "hard stop", "status": "ok", "text": "text", "remedy": ""}
        assert json.loads(as_json([finding])) == [expected]

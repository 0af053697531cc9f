"""`warmroute replay`, on small traces."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.loadtests.replay.traces import write_conversations, write_sessions
from warmroute.cli import app

SMALL = ("--replicas", "2", "--load", "0.3", "--kv-tokens", "20000", "--jobs", "1")


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    """48 requests; at this load for about 20 s."""
    return write_conversations(tmp_path / "trace.jsonl")


def invoke(*arguments: str, status: int = 0) -> str:
    """What it prints."""
    result = CliRunner().invoke(app, ["replay", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def run(tmp_path: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What it prints, and the JSON file."""
    path = tmp_path / "all.json"
    output = invoke(*arguments, *SMALL, "--json", str(path))
    return output, json.loads(path.read_text())


def test_policies_are_compared_over_seeds(tmp_path: Path, conversations: Path) -> None:
    """A row for each with its interval, ratios to the first, and the bounds, in the terminal and in the file."""
    output, content = run(tmp_path, str(conversations), "--policy", "round_robin,prefix_affinity", "--seeds", "3")
    assert (
        "trace.jsonl, 48 requests: 2 replicas of 20,000 KV tokens, 1 router, messages 5 ms late, seeds 1, 2, 3"
        in output
    )
    assert "Times round_robin" in output
    assert "shares lost by cause" in output
    assert "of one pooled LRU of 40,000 tokens" in output
    assert len(re.findall(r"prefix_affinity.*±", output)) == 3
    assert [(each["case"]["policy"], each["case"]["seed"]) for each in content["outcomes"]] == [
        (policy, seed) for seed in (1, 2, 3) for policy in ("round_robin", "prefix_affinity")
    ]
    shares = [
        {cause: share["value"] for cause, share in each["cause_to_share"].items()} for each in content["estimates"]
    ]
    assert shares[0]["spilled"] > 2 * shares[1]["spilled"]
    ours = content["estimates"][1]
    assert ours["metric_to_ratio"]["hit_rate"]["value"] > 1
    assert ours["metric_to_mean"]["hit_rate"]["value"] <= content["bound_estimates"][0]["infinite"]["value"]
    assert set(content["versions"]) == {"warmroute", "python", "machine"}
    assert content["experiment"]["workload"]["trace"] == str(conversations)


def test_a_run_is_a_function_of_its_options(tmp_path: Path, conversations: Path) -> None:
    """All but the speed of decisions is the same again, also in other processes."""
    arguments = (str(conversations), "--policy", "power_of_two,prefix_affinity")
    first, second = run(tmp_path, *arguments)[1], run(tmp_path, *arguments, "--jobs", "2")[1]
    for content in (first, second):
        for outcome in content["outcomes"]:
            assert outcome["summary"].pop("decisions_per_s") > 0
    assert first["outcomes"] == second["outcomes"]


def test_engines_that_tell_need_no_true_capacity(tmp_path: Path, conversations: Path) -> None:
    """With KV events, routers that are told of a good half of the memory hit nearly as much; without, they do not.

    Nearly: memory, and how fast it turns over, are part of a placement's cost, whatever is known of its content.
    """

    def hit_rates(*options: str) -> float:
        output, content = run(tmp_path, str(conversations), "--policy", "prefix_affinity", "--sweep", "1", *options)
        assert ("KV events" in output) == ("--kv-events" in options)
        assert ("routers are told 11,000" in output) == ("11000" in options)
        return sum(each["summary"]["hit_rate"] for each in content["outcomes"])

    told = ("--told-kv-tokens", "11000")
    assert hit_rates("--kv-events", *told) > 0.97 * hit_rates("--kv-events")
    assert hit_rates(*told) < 0.95 * hit_rates()


def test_loads_are_swept(tmp_path: Path, conversations: Path) -> None:
    """The main load stays the first; a higher one waits longer."""
    _, content = run(tmp_path, str(conversations), "--policy", "least_loaded", "--sweep", "0.1,2")
    load_to_ttft = {each["load"]: each["metric_to_mean"]["mean_ttft_s"]["value"] for each in content["estimates"]}
    assert list(load_to_ttft) == [0.3, 0.1, 2]
    assert max(load_to_ttft[0.1], load_to_ttft[0.3]) < load_to_ttft[2]


def test_several_routers_tenants_changes_and_closed_loop(tmp_path: Path, conversations: Path) -> None:
    """Everything at once: every request is served, and tenants make the bound lower."""
    plain = run(tmp_path, str(conversations), "--policy", "prefix_affinity")[1]
    arguments = ("--routers", "2", "--lag-ms", "50", "--closed-loop", "--tenants", "2,1", "--change", "join:2@5")
    output, content = run(
        tmp_path, str(conversations), "--policy", "prefix_affinity", *arguments, "--change", "crash:0@10"
    )
    assert "closed loop: 2 replicas" in output
    assert "2 routers, messages 50 ms late" in output
    assert content["bounds"][0]["num_requests"] == 48
    assert content["bounds"][0]["infinite_hit_rate"] < plain["bounds"][0]["infinite_hit_rate"]


def test_sessions_get_arrivals_of_their_own(tmp_path: Path) -> None:
    """And copies."""
    trace = write_sessions(tmp_path / "sessions.jsonl")
    _, content = run(tmp_path, str(trace), "--policy", "prefix_affinity", "--copies", "2", "--think-s", "0.5")
    assert content["bounds"][0]["num_requests"] == 36
    assert content["bounds"][0]["is_closed_loop"]


def test_the_page_is_one_file_with_all_plots(tmp_path: Path, conversations: Path) -> None:
    """Three plots for the load, five for the sweep; nothing is fetched, and names are there."""
    path = tmp_path / "report.html"
    policies = "prefix_affinity,least_loaded"
    invoke(str(conversations), "--policy", policies, "--sweep", "0.5", "--seeds", "2", *SMALL, "--html", str(path))
    page = path.read_text()
    assert page.count("<figure>") == 8
    assert not re.findall(r"""(?:src|href)=|url\(|@import|<script""", page)
    for text in ("prefix_affinity", "Distribution of TTFT", "Imbalance over time", "one pooled LRU", "Load sweep", "±"):
        assert text in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.jsonl", "--policy", "least_loaded"], "cannot read the trace absent.jsonl"),
        (["TRACE", "--policy", "foo"], "--policy foo does not exist: use one or more of"),
        (["TRACE", "--policy", "least_loaded", "--sweep", "x"], "--sweep x is not a list of numbers"),
        (["TRACE", "--policy", "least_loaded", "--copies", "2"], "--copies 2 is for traces of sessions"),
        (["TRACE", "--policy", "least_loaded", "--replicas", "0"], "--replicas 0 is too small: use 1 or more"),
        (["TRACE", "--policy", "least_loaded", "--load", "nan"], "--load nan is too small: use 0.001 or more"),
        (["TRACE", "--policy", "least_loaded", "--change", "leave:9@1"], "no replica of rank 9"),
        (["TRACE", "--policy", "least_loaded", "--json", "/absent/x.json"], "--json /absent/x.json cannot be written"),
    ],
)
def test_bad_input_is_one_clear_sentence(conversations: Path, arguments: list[str], message: str) -> None:
    """With status 1, and no traceback."""
    arguments = [str(conversations) if each == "TRACE" else each for each in arguments]
    output = invoke(*SMALL, *arguments, status=1)
    assert output.startswith("error: ")
    assert message in output
    assert len(output.splitlines()) == 1


def test_its_help_is_its_own() -> None:
    """Not the one of the program that passes it on."""
    assert "--kv-tokens" in invoke("--help")


def test_a_generator_brings_its_own_replicas_and_arrivals(tmp_path: Path) -> None:
    """At a rate times its own, which the tables show as the load; size and memory may be given."""
    path = tmp_path / "all.json"
    options = ("--policy", "least_loaded", "--jobs", "1", "--json", str(path))
    output = invoke("burst", "--rate", "2", *options)
    content = json.loads(path.read_text())
    assert "made at 2 times its own rate: 4 replicas of 40,000 KV tokens" in output
    assert content["outcomes"][0]["case"]["load"] == 2
    assert "made at 1 times its own rate: 3 replicas of 60,000 KV tokens" in invoke(
        "burst", "--replicas", "3", "--kv-tokens", "60000", *options
    )


def test_chats_are_a_closed_loop() -> None:
    """Without being told so."""
    output = invoke("chats", "--rate", "0.1", "--policy", "least_loaded", "--jobs", "1")
    assert re.search(r"chats, \d+ requests made at 0.1 times its own rate, closed loop: 8 replicas", output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("burst", "--load", "0.5"), "--load and --sweep are for files, and burst makes its own arrivals: use --rate"),
        (("burst", "--sweep", "0.5"), "--load and --sweep are for files"),
        (("burst", "--copies", "2"), "--tenants and --copies are for files"),
        (("burst", "--tenants", "1,2"), "--tenants and --copies are for files"),
        (("trace.jsonl", "--rate", "2"), "--rate 2.0 is for generators, and trace.jsonl is a file: use --load"),
    ],
)
def test_options_that_do_not_apply_are_refused(arguments: tuple[str, ...], message: str) -> None:
    """With what to use instead."""
    assert message in invoke(*arguments, "--policy", "least_loaded", status=1)


def test_the_order_of_waiting_is_an_option(tmp_path: Path, conversations: Path) -> None:
    """Past saturation it changes the outcome; an order that there is not is refused with those that there are."""
    means = {}
    for order in ("arrival", "shortest"):
        arguments = ("--policy", "round_robin", "--sweep", "8", "--waiting-order", order)
        _, content = run(tmp_path, str(conversations), *arguments)
        assert f"waiting_order={order!r}" in content["experiment"]["engine"]
        means[order] = content["outcomes"][-1]["summary"]["mean_ttft_s"]
    assert means["shortest"] < means["arrival"]
    assert "'arrival', 'shortest'" in invoke(
        str(conversations), "--policy", "random", "--waiting-order", "longest", status=2
    )

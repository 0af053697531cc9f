"""The measurement of the order of waiting: its traffic, its figures, and the comparison in virtual time."""

import json
from pathlib import Path
from typing import get_args

import pytest

from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.vllm_server import command
from benchmarks.live.waiting_order.figures import TimedAnswer, TtftFigures, figures, mean_of, table
from benchmarks.live.waiting_order.live import ORDERS, _ask, server_options
from benchmarks.live.waiting_order.replayed import Fleet, replayed
from benchmarks.live.waiting_order.traffic import DOCUMENT_TOKENS, LONG_TOKENS, SHORT_TOKENS, Ask, make_traffic
from loadtests.replay.workload import ReplayWorkload
from serve_app.settings.schema import Settings, WaitingOrderName
from tests.benchmarks.fake_server import FakeServer


def test_figures_are_of_all_and_of_the_shortest_and_longest_fifth() -> None:
    """Ten prompts: the two shortest took 1 and 2 seconds, the two longest 9 and 10."""
    answers = [TimedAnswer(100 * number, float(number)) for number in (10, 1, 9, 2, 8, 3, 7, 4, 6, 5)]
    found = figures(answers)
    assert found == TtftFigures(5.5, 5.5, found.p99_s, 10.0, 1.5, 9.5)
    assert found.p99_s == pytest.approx(9.91)
    with pytest.raises(MeasurementError, match="4 answers have no fifths"):
        figures(answers[:4])


def test_runs_alike_are_averaged_figure_by_figure() -> None:
    """Of two."""
    assert mean_of([TtftFigures(1, 2, 3, 4, 5, 6), TtftFigures(3, 4, 5, 6, 7, 8)]) == TtftFigures(2, 3, 4, 5, 6, 7)


def test_a_table_has_a_row_for_each_load_and_order() -> None:
    """In seconds, to the hundredth."""
    columns = table([("1.2", "arrival", TtftFigures(1, 2, 3, 4, 5, 6.789))]).columns
    assert [column.header for column in columns][:4] == ["load", "order", "mean", "p50"]
    assert [next(column.cells) for column in columns] == [
        *("1.2", "arrival"),
        *("1.00", "2.00", "3.00", "4.00", "5.00", "6.79"),
    ]


def test_traffic_brings_as_many_new_tokens_as_said() -> None:
    """Short prompts and long ones, of which some begin alike; the same for the same seed."""
    asks = make_traffic(num_prompts=500, tokens_per_s=1000, seed=1)
    assert asks == make_traffic(num_prompts=500, tokens_per_s=1000, seed=1)
    assert asks != make_traffic(num_prompts=500, tokens_per_s=1000, seed=2)
    assert asks[-1].at_s == pytest.approx(sum(ask.new_tokens for ask in asks) / 1000, rel=0.02)
    lengths = [len(ask.token_ids) for ask in asks]
    assert all(
        SHORT_TOKENS[0] <= length <= SHORT_TOKENS[1] or LONG_TOKENS[0] <= length <= LONG_TOKENS[1] for length in lengths
    )
    known: set[tuple[int, ...]] = set()
    for ask in asks:
        beginning = ask.token_ids[:DOCUMENT_TOKENS]
        assert len(ask.token_ids) - ask.new_tokens == (DOCUMENT_TOKENS if beginning in known else 0)
        known.add(beginning)
    assert sum(ask.new_tokens < len(ask.token_ids) for ask in asks) > 10


def test_servers_differ_in_the_scheduler_only() -> None:
    """Whatever engine the settings name; dictionaries are written as vLLM's command line wants them."""
    assert get_args(WaitingOrderName) == ORDERS
    llm = {
        "model_loading_config": {"model_id": "demo", "model_source": "folder"},
        "engine_kwargs": {"num_gpu_blocks_override": 10},
    }
    settings = Settings.model_validate({"engine": "simulated", "llm": llm})
    arrival, shortest = (server_options(settings, order) for order in ORDERS)
    assert shortest.pop("scheduler_cls").endswith("WarmrouteScheduler")
    assert shortest == arrival
    assert (arrival["model"], arrival["served_model_name"]) == ("folder", "demo")
    started = command(arrival, port=1)
    assert json.loads(started[started.index("--additional-config") + 1])


async def test_an_answer_is_timed_to_its_first_token() -> None:
    """A server that refuses ends the measurement."""
    ask = Ask(0.0, (1, 2, 3), new_tokens=3, answer_tokens=4)
    async with FakeServer(step_s=0.02).client() as client:
        answer = await _ask(client, "", "demo", ask)
        assert answer.prompt_tokens == 3
        assert 0 < answer.ttft_s < 4 * 0.02
        with pytest.raises(MeasurementError, match="did not answer a prompt of 3 tokens: 400"):
            await _ask(client, "", "another model", ask)


def test_in_virtual_time_short_prompts_gain(tmp_path: Path) -> None:
    """Near a load of one, of 200 prompts with every tenth a hundred times as long; the mean falls, nobody starves."""
    path = tmp_path / "trace.jsonl"
    with path.open("w") as file:
        for number in range(200):
            num_blocks = 60 if number % 10 == 0 else 1
            line = {
                "timestamp": 100 * number,
                "input_length": 512 * num_blocks,
                "output_length": 2,
                "hash_ids": [1000 * number + index for index in range(num_blocks)],
            }
            file.write(json.dumps(line) + "\n")
    workload = ReplayWorkload(path, is_closed_loop=False, is_spread_evenly=True, think_s=1, num_copies=1, tenants=())
    rows = replayed(workload, Fleet(1, 100_000, "round_robin"), loads=(1.2,), orders=ORDERS, num_seeds=2, num_jobs=1)
    assert [row[:2] for row in rows] == [("1.2", "arrival"), ("1.2", "shortest")]
    arrival, shortest = (row[2] for row in rows)
    assert shortest.mean_s < 0.8 * arrival.mean_s
    assert shortest.shortest_fifth_s < 0.8 * arrival.shortest_fifth_s
    assert shortest.longest_s < 1.6 * arrival.longest_s

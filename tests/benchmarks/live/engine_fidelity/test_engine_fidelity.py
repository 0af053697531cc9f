"""What a recording keeps, and what is concluded from sending it again."""

from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.live.engine_fidelity.command import app
from benchmarks.live.engine_fidelity.comparison import FidelityComparison
from benchmarks.live.engine_fidelity.recording import Recording, RecordingError, ServedTurn, load_recording, served
from loadtests.bench.records import SentTurn
from serve_app.settings.schema import Settings
from tests.loadtests.bench.builders import record as sent_turn

RANKS = {0: "app#LLM#aaa", 1: "app#LLM#bbb"}
SERVED = ServedTurn("chat-1", 0, sent_s=1.5, rank=1, prompt_tokens=100, cached_tokens=32, ttft_s=0.25)
RECORDING = Recording("mix", 3, 1, {"step_s": 0.01, "prefill_tokens_per_s": 9000.0, "decode_s": 0.002}, (SERVED,))


def record(due_s: float, *, ttft_s: float | None = 0.75, replica: str | None = "app#LLM#bbb") -> SentTurn:
    """Half a second late."""
    return sent_turn(
        session="chat-1",
        due_s=due_s,
        late_s=0.5,
        replica=replica,
        ttft_s=ttft_s,
        end_to_end_s=2.0,
        cached_tokens=32,
    )


def test_a_request_is_kept_as_it_was_sent_not_as_it_was_due() -> None:
    """In order of sending, each with the rank of its replica."""
    assert served([record(2.0), record(1.0)], RANKS)[0] == SERVED


@pytest.mark.parametrize("odd", [record(1, ttft_s=None), record(1, replica=None), record(1, replica="app#LLM#ccc")])
def test_a_run_with_a_failure_is_no_recording(odd: SentTurn) -> None:
    """It could not be sent again in the same way."""
    with pytest.raises(RecordingError, match="chat-1, turn 0"):
        served([odd], RANKS)


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And another file is refused with its name."""
    RECORDING.save(tmp_path / "run.json")
    assert load_recording(tmp_path / "run.json") == RECORDING
    (tmp_path / "other.json").write_text('{"workload": 1}')
    with pytest.raises(RecordingError, match=r"other.json is no recording"):
        load_recording(tmp_path / "other.json")


def test_the_settings_are_the_recorded_servers_with_simulated_engines(tmp_path: Path) -> None:
    """And are settings."""
    RECORDING.save(tmp_path / "run.json")
    config = tmp_path / "real.yaml"
    config.write_text("llm: {engine_kwargs: {num_gpu_blocks_override: 640, block_size: 32}}\nname: mine\n")
    result = CliRunner().invoke(app, ["settings", str(tmp_path / "run.json"), str(config)])
    assert result.exit_code == 0, result.output
    settings = Settings.model_validate(yaml.safe_load(result.output))
    assert (settings.name, settings.engine, settings.engine_model.step_s) == ("mine", "simulated", 0.01)
    assert settings.llm["engine_kwargs"]["num_gpu_blocks_override"] == 640


def test_both_runs_are_put_side_by_side() -> None:
    """Sums of tokens, times, and how many requests are alike."""
    other = ServedTurn("chat-1", 1, 2.0, 1, prompt_tokens=100, cached_tokens=68, ttft_s=0.75)
    simulated = [SERVED, ServedTurn("chat-1", 1, 2.0, 1, prompt_tokens=100, cached_tokens=64, ttft_s=0.35)]
    comparison = FidelityComparison([SERVED, other], simulated)
    console = Console(width=150, file=StringIO())
    with console.capture() as text:
        console.print(comparison.table(), comparison.size_table())
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.get().splitlines() if "│" in line]
    assert ["cached tokens", "100", "96", "0.9600"] in cells
    assert ["TTFT mean, ms", "500", "300", "0.600"] in cells
    assert ["0 to 149", "2", "100", "500", "300"] in cells
    assert comparison.lines()[0] == "1 of 2 requests reused exactly as many tokens."
    assert comparison.faults() == []


def test_other_prompts_are_no_comparison() -> None:
    """Their lengths tell."""
    longer = ServedTurn("chat-1", 0, 1.5, 1, prompt_tokens=101, cached_tokens=32, ttft_s=0.25)
    assert "1 prompts have other lengths" in FidelityComparison([SERVED], [longer]).faults()[0]

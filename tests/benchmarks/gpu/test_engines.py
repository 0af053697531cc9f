"""What engines are told, on a GPU and on a CPU."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu.engines import EngineOptions, variables, vllm_options
from benchmarks.gpu.model import Shape, write_model
from benchmarks.harness.machine import Machine

GPU = Machine("NVIDIA H100, 81559 MiB", driver="580.1")
CPU = Machine("CPU: some, 2 cores", driver=None)
OPTIONS = EngineOptions(Shape.TINY, max_prompt_tokens=1000, max_step_tokens=512, memory_share=0.3, kv_tokens=6400)


def test_a_gpu_is_shared_by_memory() -> None:
    """Its blocks are vLLM's default; CUDA graphs are captured as in production."""
    options = vllm_options(Path("model"), OPTIONS, GPU)
    assert options["gpu_memory_utilization"] == 0.3
    assert (options["block_size"], options["num_gpu_blocks_override"]) == (16, 400)
    assert (options["max_num_batched_tokens"], options["max_model_len"]) == (512, 1064)
    assert "enforce_eager" not in options
    assert "VLLM_CPU_KVCACHE_SPACE" not in variables(GPU)


def test_a_cpu_compiles_nothing() -> None:
    """One core each, and a cache of a GiB at most."""
    options = vllm_options(Path("model"), OPTIONS, CPU)
    assert options["enforce_eager"]
    assert (options["block_size"], options["num_gpu_blocks_override"]) == (32, 200)
    assert "gpu_memory_utilization" not in options
    assert variables(CPU)["OMP_NUM_THREADS"] == "1"
    assert variables(CPU)["VLLM_SERVER_DEV_MODE"] == variables(GPU)["VLLM_SERVER_DEV_MODE"] == "1"


@pytest.mark.parametrize("shape", Shape)
def test_a_model_is_a_shape_and_a_tokenizer(shape: Shape, tmp_path: Path) -> None:
    """Without weights; both read as many tokens as they are told."""
    pytest.importorskip("transformers")
    write_model(tmp_path, shape, max_model_len=70_000)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == 70_000
    assert config["hidden_size"] == {Shape.LLAMA_8B: 4096, Shape.TINY: 256}[shape]
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 70_000
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_second_tier_is_vllms_own_offloading() -> None:
    """In GiB; without one vLLM is told nothing."""
    assert "kv_offloading_size" not in vllm_options(Path("model"), OPTIONS, GPU)
    assert vllm_options(Path("model"), replace(OPTIONS, host_gib=20.0), GPU)["kv_offloading_size"] == 20.0

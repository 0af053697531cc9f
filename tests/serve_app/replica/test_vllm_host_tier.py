"""The size of the second tier, read from vLLM's configuration."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from serve_app.messages.facts import ReplicaFacts
from serve_app.replica.vllm_host_tier import GIB, host_capacity_tokens, known_host_capacity_tokens, kv_bytes_per_token


class Model:
    """A model of 32 layers and 8 KV heads of 128: Llama 3.1 8B's sizes."""

    dtype = torch.bfloat16

    def __init__(self, *, use_mla: bool = False) -> None:
        self.use_mla = use_mla

    def get_num_kv_heads(self, parallel: Any) -> int:
        """KV heads of each worker, as vLLM's ModelConfig has it."""
        return 1 if self.use_mla else max(1, 8 // parallel.tensor_parallel_size)

    def get_head_size(self) -> int:
        """Or the latent vector's."""
        return 576 if self.use_mla else 128

    def get_total_num_hidden_layers(self) -> int:
        """Layers of all pipeline stages."""
        return 32


def config(
    connector: str | None = None,
    extra: dict[str, Any] | None = None,
    *,
    tensor_parallel_size: int = 1,
    cache_dtype: str = "auto",
    use_mla: bool = False,
) -> Any:
    """As much of a VllmConfig as is read."""
    return SimpleNamespace(
        kv_transfer_config=SimpleNamespace(kv_connector=connector, kv_connector_extra_config=extra or {}),
        model_config=Model(use_mla=use_mla),
        parallel_config=SimpleNamespace(tensor_parallel_size=tensor_parallel_size, world_size=tensor_parallel_size),
        cache_config=SimpleNamespace(cache_dtype=cache_dtype),
    )


@pytest.mark.parametrize(
    ("sizes", "expected_kib"),
    [
        ({}, 128),
        ({"cache_dtype": "fp8"}, 64),
        ({"tensor_parallel_size": 4}, 128),
        ({"tensor_parallel_size": 16}, 256),  # each head on two workers
        ({"use_mla": True}, 36),
        ({"use_mla": True, "tensor_parallel_size": 2}, 72),
    ],
)
def test_bytes_per_token_are_those_of_all_workers(sizes: dict[str, Any], expected_kib: int) -> None:
    """As they store it."""
    assert kv_bytes_per_token(config(**sizes)) == expected_kib * 1024


@pytest.mark.parametrize(
    ("connector", "extra", "expected_gib"),
    [
        (None, {}, 0),
        ("OffloadingConnector", {"cpu_bytes_to_use": 10.0 * GIB}, 10),  # what kv_offloading_size becomes
        ("SimpleCPUOffloadConnector", {}, 8),
        ("SimpleCPUOffloadConnector", {"cpu_bytes_to_use": GIB}, 1),
        ("SimpleCPUOffloadConnector", {"cpu_bytes_to_use": GIB, "cpu_bytes_to_use_per_rank": GIB}, 2),
        ("LMCacheConnectorV1", {}, 10),
        ("LMCacheConnectorV1", {"lmcache.max_local_cpu_size": 3}, 6),
        ("LMCacheConnectorV1", {"lmcache.local_cpu": False}, 0),
        ("LMCacheMPConnector", {}, 0),  # only its server knows
        ("NixlConnector", {}, 0),
        (
            "MultiConnector",
            {
                "connectors": [
                    {"kv_connector": "NixlConnector"},
                    {
                        "kv_connector": "OffloadingConnector",
                        "kv_connector_extra_config": {"cpu_bytes_to_use": 2 * GIB},
                    },
                ]
            },
            2,
        ),
    ],
)
def test_the_tier_is_as_large_as_its_connector_is_told(
    connector: str | None, extra: dict[str, Any], expected_gib: int
) -> None:
    """Two workers; 8,192 tokens a GiB."""
    vllm_config = config(connector, extra, tensor_parallel_size=2)
    assert host_capacity_tokens(vllm_config, environment={}) == expected_gib * 8192


def test_no_transfer_is_no_tier() -> None:
    """As vLLM has it by default."""
    vllm_config = config()
    vllm_config.kv_transfer_config = None
    assert host_capacity_tokens(vllm_config, environment={}) == 0


def test_lmcaches_file_and_environment_are_read(tmp_path: Path) -> None:
    """The environment goes before the file, and vLLM's extra configuration before both."""
    file = tmp_path / "lmcache.yaml"
    file.write_text("chunk_size: 256\nmax_local_cpu_size: 20\n")
    environment = {"LMCACHE_CONFIG_FILE": str(file)}
    vllm_config = config("LMCacheConnectorV1")
    assert host_capacity_tokens(vllm_config, environment=environment) == 20 * 8192
    environment["LMCACHE_MAX_LOCAL_CPU_SIZE"] = "7.5"
    assert host_capacity_tokens(vllm_config, environment=environment) == 7.5 * 8192
    vllm_config = config("LMCacheConnectorV1", {"lmcache.max_local_cpu_size": 1})
    assert host_capacity_tokens(vllm_config, environment=environment) == 8192


def test_routers_learn_it_with_the_facts() -> None:
    """Through Serve's replica metadata."""
    facts = ReplicaFacts(0, 16, 1000, host_capacity_tokens=8192)
    assert ReplicaFacts.from_metadata(facts.as_metadata()) == facts


def test_a_size_that_cannot_be_found_out_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """A replica serves all the same, and its log says why."""
    assert known_host_capacity_tokens(config("LMCacheConnectorV1", {"lmcache.max_local_cpu_size": "much"})) == 0
    assert "second KV tier" in caplog.text


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_vllms_own_configuration_is_read(tmp_path: Path) -> None:
    """`kv_offloading_size` of 0.5 GiB, and the bytes of a token that vLLM's cache spec has."""
    from vllm.config import CacheConfig, ModelConfig, VllmConfig
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    sizes = {"hidden_size": 64, "intermediate_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2}
    names = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 512}
    (tmp_path / "config.json").write_text(json.dumps(names | sizes | {"num_hidden_layers": 3, "vocab_size": 100}))
    vllm_config = VllmConfig(
        model_config=ModelConfig(model=str(tmp_path), skip_tokenizer_init=True, dtype="bfloat16"),
        cache_config=CacheConfig(block_size=32, kv_offloading_size=0.5),
    )
    spec = FullAttentionSpec(32, num_kv_heads=2, head_size=16, dtype=torch.bfloat16)
    bytes_per_token = 3 * spec.page_size_bytes // 32
    assert kv_bytes_per_token(vllm_config) == bytes_per_token
    assert host_capacity_tokens(vllm_config, environment={}) == GIB // 2 // bytes_per_token

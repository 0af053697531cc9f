"""The size of a replica's second tier: KV that vLLM offloads to the host's memory, in tokens.

Adapter: private names of vLLM are listed in tests/serve_app/test_private_names.py.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from vllm.utils.torch_utils import get_dtype_size, get_kv_cache_torch_dtype

logger = logging.getLogger("ray.serve")

GIB = 2**30
SIMPLE_DEFAULT_BYTES = 8 * GIB
"""The default of SimpleCPUOffloadConnector (`DEFAULT_CPU_CAPACITY_BYTES`)."""
LMCACHE_DEFAULT_GIB = 5.0
"""The default of LMCache's `max_local_cpu_size`, for each worker."""


def host_capacity_tokens(vllm_config: Any, *, environment: Mapping[str, str] = os.environ) -> int:  # noqa: ANN401
    """Tokens whose KV fits into the tier; 0 without such a tier, or where only another process knows its size.

    For models whose layers have caches of several kinds this is too few, as all are taken to be of full attention.
    """
    transfer = vllm_config.kv_transfer_config
    if transfer is None or transfer.kv_connector is None:
        return 0
    num_workers = vllm_config.parallel_config.world_size
    capacity_bytes = _capacity_bytes(
        transfer.kv_connector, transfer.kv_connector_extra_config, num_workers=num_workers, environment=environment
    )
    return int(capacity_bytes // kv_bytes_per_token(vllm_config)) if capacity_bytes else 0


def known_host_capacity_tokens(vllm_config: Any) -> int:  # noqa: ANN401
    """The same; 0 where it cannot be found out, which is no reason not to serve."""
    try:
        return host_capacity_tokens(vllm_config)
    except Exception:
        logger.exception("The size of the second KV tier is not known; routers will not count on it")
        return 0


def kv_bytes_per_token(vllm_config: Any) -> int:  # noqa: ANN401  VllmConfig
    """Bytes of KV for one token, all workers together: heads that several workers have count as often."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    dtype = get_kv_cache_torch_dtype(vllm_config.cache_config.cache_dtype, model.dtype)
    num_vectors = 1 if model.use_mla else 2  # MLA stores one latent vector, others a key and a value
    bytes_per_layer = num_vectors * model.get_num_kv_heads(parallel) * model.get_head_size() * get_dtype_size(dtype)
    return int(bytes_per_layer * model.get_total_num_hidden_layers() * parallel.tensor_parallel_size)


def _capacity_bytes(
    connector: str, extra: Mapping[str, Any], *, num_workers: int, environment: Mapping[str, str]
) -> float:
    """The tier's size in bytes, all workers together."""
    match connector:
        case "OffloadingConnector":
            return float(extra.get("cpu_bytes_to_use", 0))
        case "SimpleCPUOffloadConnector":
            for_each = extra.get("cpu_bytes_to_use_per_rank")
            return float(
                extra.get("cpu_bytes_to_use", SIMPLE_DEFAULT_BYTES) if for_each is None else int(for_each) * num_workers
            )
        case "LMCacheConnectorV1":
            return num_workers * _lmcache_gib(extra, environment) * GIB
        case "MultiConnector":
            parts = extra.get("connectors", ())
            sizes = (
                _capacity_bytes(
                    part.get("kv_connector", ""),
                    part.get("kv_connector_extra_config", {}),
                    num_workers=num_workers,
                    environment=environment,
                )
                for part in parts
            )
            return max(sizes, default=0.0)
    return 0.0


def _lmcache_gib(extra: Mapping[str, Any], environment: Mapping[str, str]) -> float:
    """GiB for each worker, in LMCache's own order: vLLM's extra configuration, the environment, the file, default."""
    settings: dict[str, Any] = {}
    file = environment.get("LMCACHE_CONFIG_FILE")
    if file is not None and Path(file).is_file():
        settings |= yaml.safe_load(Path(file).read_text()) or {}
    for name in ("local_cpu", "max_local_cpu_size"):
        if f"LMCACHE_{name.upper()}" in environment:
            settings[name] = yaml.safe_load(environment[f"LMCACHE_{name.upper()}"])
        if f"lmcache.{name}" in extra:
            settings[name] = extra[f"lmcache.{name}"]
    if not settings.get("local_cpu", True):
        return 0.0
    return float(settings.get("max_local_cpu_size", LMCACHE_DEFAULT_GIB))

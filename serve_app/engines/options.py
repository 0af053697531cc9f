"""The engine that the replicas run: vLLM with its scheduler or ours, and its worker or one that computes nothing."""

from typing import Any

from serve_app.settings.schema import Settings

ENGINE_MODEL = "warmroute_engine_model"
"""Key under which vLLM's `additional_config` carries the constants to the worker."""
WORKER = "serve_app.engines.vllm_worker.SimulatedWorker"
SCHEDULER = "serve_app.engines.vllm_scheduler.WarmrouteScheduler"


def replica_options(settings: Settings) -> dict[str, Any]:
    """The settings' `llm` for the replicas; the routers, which only tokenise, take it as it is."""
    arguments: dict[str, Any] = {}
    if settings.replicas.waiting_order != "arrival":
        arguments["scheduler_cls"] = SCHEDULER
    if settings.engine == "simulated":
        arguments |= _simulated(settings)
    if not arguments:
        return settings.llm
    return {**settings.llm, "engine_kwargs": {**settings.llm.get("engine_kwargs", {}), **arguments}}


def _simulated(settings: Settings) -> dict[str, Any]:
    additional = settings.llm["engine_kwargs"].get("additional_config", {})
    return {
        "worker_cls": WORKER,
        "additional_config": {**additional, ENGINE_MODEL: settings.engine_model.model_dump()},
    }

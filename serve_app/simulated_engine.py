"""Which engine the replicas run: vLLM as it is, or vLLM with a worker that computes nothing."""

from typing import Any

from serve_app.settings import Settings

ENGINE_MODEL = "warmroute_engine_model"
"""Under which vLLM's `additional_config` carries the constants to the worker."""
WORKER = "serve_app.simulated_worker.SimulatedWorker"


def replica_options(settings: Settings) -> dict[str, Any]:
    """The settings' `llm` for the replicas; the routers, which only tokenise, take it as it is."""
    if settings.engine == "vllm":
        return settings.llm
    arguments = settings.llm["engine_kwargs"]
    return {
        **settings.llm,
        "engine_kwargs": {
            **arguments,
            "worker_cls": WORKER,
            "additional_config": {
                **arguments.get("additional_config", {}),
                ENGINE_MODEL: settings.engine_model.model_dump(),
            },
        },
    }

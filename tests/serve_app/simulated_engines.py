"""vLLM with the simulated worker, in a test's own process, without Serve around it."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from serve_app.engines.options import replica_options
from serve_app.settings.schema import Settings
from tests.engine_processes import fork_engines
from tests.servers import DEMO_MODEL

BLOCK_SIZE = 16
NUM_BLOCKS = 101
"""One of them is vLLM's own."""


@contextlib.contextmanager
def running_engine(*, step_s: float = 0.001, **engine_kwargs: Any) -> Iterator[Any]:
    """An AsyncLLM with 1,600 tokens of KV cache, and steps of hardly any time, unless said otherwise."""
    fork_engines()
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    size = {
        "block_size": BLOCK_SIZE,
        "num_gpu_blocks_override": NUM_BLOCKS,
        "max_model_len": 1024,
        "max_num_batched_tokens": 128,
    }
    settings = Settings.model_validate(
        {
            "engine": "simulated",
            "engine_model": {"step_s": step_s, "prefill_tokens_per_s": 1_000_000, "decode_s": 0},
            "llm": {"engine_kwargs": size | engine_kwargs},
        }
    )
    arguments = replica_options(settings)["engine_kwargs"]
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=str(DEMO_MODEL), **arguments))
    try:
        yield engine
    finally:
        engine.shutdown()
        # Its shutdown leaves this to the garbage collector, which warns whenever it comes by: after the last test, too.
        engine.engine_core.resources.ctx.destroy(linger=0)


async def make_app(engine: Any, *, served_model_name: str | None = None) -> Any:
    """vLLM's own HTTP app around it, as Ray builds it; the model's name is its path where none is given."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.entrypoints.openai.api_server import build_app, init_app_state
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    arguments.model = engine.vllm_config.model_config.model
    arguments.served_model_name = None if served_model_name is None else [served_model_name]
    tasks = ("generate",)
    app = build_app(arguments, supported_tasks=tasks)
    await init_app_state(engine, app.state, arguments, supported_tasks=tasks)
    app.state.server = SimpleNamespace()  # where vLLM's answer to an engine's error looks, and finds nothing to stop
    return app


async def ask(engine: Any, request_id: str, token_ids: list[int], *, cache_salt: str = "", **options: Any) -> Any:
    """The last output of a request."""
    from vllm import SamplingParams

    params = SamplingParams(**{"max_tokens": 4, "ignore_eos": True, "temperature": 0, **options})
    prompt = {"prompt_token_ids": token_ids} | ({"cache_salt": cache_salt} if cache_salt else {})
    output = None
    async for each in engine.generate(prompt, params, request_id=request_id):
        output = each
    return output

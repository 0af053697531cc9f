"""The same requests through the simulator's engine."""

from collections.abc import Iterable, Iterator

from benchmarks.live.cache_parity.questions import Answered
from loadtests.replay.engine import Engine, EngineOptions
from loadtests.replay.trace import TraceRequest
from router import RequestId, hash_blocks, root_hash
from serve_app.messages.receipts import Prefilled


def simulated_cached_tokens(served: Iterable[Answered], *, block_size: int, kv_capacity_tokens: int) -> Iterator[int]:
    """What the simulated engine reuses of each, from an empty cache on, one request after the other."""
    engine = Engine(EngineOptions(kv_capacity_tokens=kv_capacity_tokens), block_size=block_size)
    for number, each in enumerate(served):
        engine.submit(RequestId(str(number)), _request(each, block_size))
        yield sum(_run(engine))


def _run(engine: Engine) -> Iterator[int]:
    while engine.start_step() is not None:
        for output in engine.finish_step():
            if isinstance(output, Prefilled):
                yield output.cached_tokens


def _request(served: Answered, block_size: int) -> TraceRequest:
    prompt = served.question.prompt
    root = root_hash(model="", adapter="", tenant="", cache_salt="")
    hashes = hash_blocks(prompt + served.answer, block_size=block_size, root=root)
    num_prompt_blocks = len(prompt) // block_size
    return TraceRequest(
        arrival_s=0.0,
        num_prompt_tokens=len(prompt),
        num_output_tokens=len(served.answer),
        block_hashes=hashes[:num_prompt_blocks],
        answer_hashes=hashes[num_prompt_blocks:],
    )

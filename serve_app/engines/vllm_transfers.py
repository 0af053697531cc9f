"""The worker's side of vLLM's offloading connector, without memory: what a step is told to copy is there at its end.

Which blocks go where, and what comes back, is decided in vLLM's scheduler, by vLLM's own connector. Adapter: private
names of vLLM are listed in tests/serve_app/test_private_names.py.
"""

from typing import NamedTuple

from vllm.distributed.kv_transfer.kv_connector.v1.offloading.common import (
    OffloadingConnectorMetadata,
    OffloadingWorkerMetadata,
)
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import KVConnectorOutput


class Transferred(NamedTuple):
    """What one step has transferred."""

    output: KVConnectorOutput | None
    """Output for the scheduler; None where no connector told anything."""
    num_loaded_blocks: int
    """Number of blocks that came back."""


def transferred(step: SchedulerOutput) -> Transferred:
    """All transfers that the step was told, as done. Copying out is free, as if it overlapped."""
    told = step.kv_connector_metadata
    if not isinstance(told, OffloadingConnectorMetadata):
        return Transferred(None, 0)
    done = OffloadingWorkerMetadata(completed_jobs=dict.fromkeys([*told.load_jobs, *told.store_jobs], 1))
    loads = told.load_jobs.values()
    return Transferred(
        KVConnectorOutput(finished_recving={job.req_id for job in loads}, kv_connector_worker_meta=done),
        sum(len(job.dst_spec.block_ids) for job in loads),
    )

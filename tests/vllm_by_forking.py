"""vLLM whose processes are forked from one that has imported it already: importing this changes vLLM here.

On a CPU, vLLM starts each process of an engine afresh, which imports vLLM for half a minute before it does anything.
"""

import multiprocessing

import vllm.v1.engine.core  # for the processes that are forked
import vllm.v1.worker.cpu_worker  # noqa: F401
from vllm.v1.engine import utils
from vllm.v1.executor import multiproc_executor

import serve_app.engines.vllm_worker  # noqa: F401

utils.get_mp_context = lambda: multiprocessing.get_context("forkserver")
# An engine's process has no threads yet when it starts its worker; a server for it would import all of it again.
multiproc_executor.get_mp_context = lambda: multiprocessing.get_context("fork")

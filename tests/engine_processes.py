"""Engines in a test's own process, started in a second where it would be a minute."""

import functools
import importlib
import multiprocessing
import os
from multiprocessing import forkserver

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
"""Of all engines in tests: a process that is forked has the environment of the one that it is forked from."""
FORKED = "tests.vllm_by_forking"


@functools.cache
def fork_engines() -> None:
    """Let the processes of vLLM's engines be forked from now on; call it before anything of vLLM's is imported."""
    os.environ.update(ENVIRONMENT)
    multiprocessing.set_forkserver_preload([FORKED])
    forkserver.ensure_running()  # it imports vLLM while this process does
    importlib.import_module(FORKED)

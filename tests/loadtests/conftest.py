"""What load tests may need."""

from importlib.util import find_spec

import pytest

from tests.conftest import Require


@pytest.fixture(scope="session")
def vllm(require: Require) -> None:
    """VLLM is installed; no model is needed."""
    require(find_spec("vllm") is not None, "vLLM: install with `make install`")

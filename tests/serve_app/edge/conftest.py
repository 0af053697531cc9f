"""Routers and replicas for the tests of a file."""

from collections.abc import Iterator

import pytest

from tests.serve_app.edge.running import Loop
from tests.serve_app.edge.setting import Setting


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    """One for all tests of this file."""
    loop = Loop()
    yield Setting(loop)
    loop.stop()

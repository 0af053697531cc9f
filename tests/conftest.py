"""What every test may use."""

import os
from collections.abc import Callable

import hypothesis
import pytest

# Time limits on examples would fail on a busy machine and say nothing about the code.
hypothesis.settings.register_profile("warmroute", deadline=None)
hypothesis.settings.load_profile("warmroute")

Require = Callable[[bool, str], None]


@pytest.fixture(scope="session")
def require() -> Require:
    """`require(there, what)`: skip visibly for want of something; fail instead where WARMROUTE_NO_SKIP is set."""

    def check(there: bool, what: str) -> None:
        if there:
            return
        if os.environ.get("WARMROUTE_NO_SKIP"):
            pytest.fail(f"{what} is needed, and nothing may be skipped here")
        pytest.skip(f"needs {what}")

    return check

"""What every test may use."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import hypothesis
import pytest

from serve_app.settings.cluster_secret import MIN_SECRET_CHARS, SECRET_VARIABLE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Of everything that tests make or start, so that they may ask routers as HAProxy does.
os.environ.setdefault(SECRET_VARIABLE, "test" * MIN_SECRET_CHARS)

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


@pytest.fixture
def browser(require: Require) -> "Iterator[Browser]":
    """Debian's Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    require(chromium is not None, "Chromium: `apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def vllm(require: Require) -> None:
    """vLLM is installed; no model is needed."""
    require(find_spec("vllm") is not None, "vLLM: install with `make install`")


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Pytest's own, for our logger whatever was imported before: Ray and vLLM change propagation and levels."""
    caplog.set_level(logging.INFO, logger="ray.serve")
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    return caplog

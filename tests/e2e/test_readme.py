"""The README's snippets, pasted."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.local.cluster import LocalRun
from tests.conftest import Require

README = (Path(__file__).parents[2] / "README.md").read_text()
DEFAULT_URL = "http://127.0.0.1:8000"
SNIPPETS = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
(CURL,) = re.findall(r"```\n(curl .+?)```", README, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["openai", "anthropic"])
def test_a_python_snippet_prints_the_usage(run: LocalRun, snippet: str) -> None:
    """With the packages that the README names, and nothing else."""
    assert DEFAULT_URL in snippet
    code = snippet.replace(DEFAULT_URL, run.url)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "Usage(" in result.stdout


def test_the_curl_line_shows_the_headers(run: LocalRun, require: Require) -> None:
    """They are named in the README below the line."""
    require(shutil.which("curl") is not None, "curl")
    result = subprocess.run(
        ["bash", "-c", CURL.replace(DEFAULT_URL, run.url)], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "200 OK" in result.stdout
    headers = result.stdout.lower()
    assert "x-warmroute-replica:" in headers
    assert "x-warmroute-reason:" in headers

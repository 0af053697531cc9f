"""The lines that replicas write of requests, as JSON in Serve's logs."""

import json
import time
from pathlib import Path
from typing import Any

import httpx

from serve_app.local.cluster import LocalRun
from serve_app.messages.response_headers import REQUEST_ID_HEADER

TIMEOUT_S = 30.0
POLL_S = 0.2


def logs(run: LocalRun) -> Path:
    """Serve's."""
    return Path(run.ray_session) / "logs" / "serve"


def reason_of(run: LocalRun, response: httpx.Response) -> str:
    """Why a routed request went where it went: what the response itself says only of a prompt that was computed."""
    return str(wait_for_line(run, response.headers[REQUEST_ID_HEADER])["reason"])


def wait_for_line(run: LocalRun, some_id: str) -> dict[str, Any]:
    """Until a replica has written it, of a trace or a request."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        for path in logs(run).glob("replica_*.log"):
            for line in path.read_text().splitlines():
                if some_id in line:
                    found: dict[str, Any] = json.loads(line)
                    return found
        time.sleep(POLL_S)
    raise AssertionError(f"no log in {logs(run)} has a line of {some_id}")

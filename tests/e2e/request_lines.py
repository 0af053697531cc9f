"""The lines that replicas write of requests, as JSON in Serve's logs."""

import json
import time
from pathlib import Path
from typing import Any

from serve_app.local_cluster import Run

TIMEOUT_S = 30.0
POLL_S = 0.2


def logs(run: Run) -> Path:
    """Serve's."""
    return Path(run.ray_session) / "logs" / "serve"


def wait_for_line(run: Run, trace_id: str) -> dict[str, Any]:
    """Until a replica has written it."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        for path in logs(run).glob("replica_*.log"):
            for line in path.read_text().splitlines():
                if trace_id in line:
                    found: dict[str, Any] = json.loads(line)
                    return found
        time.sleep(POLL_S)
    raise AssertionError(f"no log in {logs(run)} has a line of the trace {trace_id}")

"""The end of a process that stands still."""

import subprocess
import sys

from serve_app.replica.standstill import EXIT_STATUS

SCRIPT = """
import threading
from serve_app.replica.standstill import end_unless_moving

end_unless_moving(0.2)
lock = threading.Lock()
lock.acquire()
lock.acquire()
"""


def test_a_process_that_stands_still_ends_and_says_where() -> None:
    """Here it waits for a lock that no one gives back."""
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == EXIT_STATUS
    assert 'File "<string>", line 8 in <module>' in ended.stderr

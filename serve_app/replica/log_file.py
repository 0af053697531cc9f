"""Lines for the log file that Serve keeps of this process, many at a time.

For each record, Serve's handler looks whether its file is a file and full, which formats the record once more, and
flushes, which is most of the work of a line. Here it does so once for all lines of half a second.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from logging.handlers import MemoryHandler, RotatingFileHandler

import orjson

from serve_app.messages.delivery import Delivery, DeliveryError

SERVE_LOGGER = "ray.serve"
WRITE_INTERVAL_S = 0.5
MAX_WAITING_LINES = 10_000
_NO_RECORD = logging.makeLogRecord({})
"""The record with which a handler is asked whether its file is full."""


def serve_log() -> RotatingFileHandler:
    """The handler of Serve's log file, which is behind a buffer.

    Raises:
        RuntimeError: Serve writes no file in this process.

    """
    for handler in logging.getLogger(SERVE_LOGGER).handlers:
        if isinstance(handler, MemoryHandler) and isinstance(handler.target, RotatingFileHandler):
            return handler.target
    raise RuntimeError(f"the logger {SERVE_LOGGER} has no file, so that requests cannot be logged (`log_requests`)")


class LogFile:
    """Writes lines of JSON within half a second.

    Args:
        handler: the file's handler.
        common: the fields that all lines have.
        clock: Unix time in nanoseconds.
        interval_s: seconds between two writes.

    """

    def __init__(
        self,
        handler: RotatingFileHandler,
        common: Mapping[str, object],
        *,
        clock: Callable[[], int] = time.time_ns,
        interval_s: float = WRITE_INTERVAL_S,
    ) -> None:
        self._handler = handler
        self._common = common
        self._clock = clock
        self._lines: Delivery[bytes] = Delivery(self._write, interval_s=interval_s, max_undelivered=MAX_WAITING_LINES)

    def post(self, fields: Mapping[str, object]) -> None:
        """Take one line. Must be called on the event loop."""
        now_ns = self._clock()
        seconds, milliseconds = divmod(now_ns // 1_000_000, 1000)
        asctime = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))},{milliseconds:03d}"
        line = {"levelname": "INFO", "asctime": asctime, **self._common, **fields, "timestamp_ns": now_ns}
        self._lines.post(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    async def flush(self) -> None:
        """Wait until all lines so far are written, or dropped as that failed."""
        await self._lines.flush()

    async def _write(self, lines: Sequence[bytes]) -> None:
        handler = self._handler
        handler.acquire()
        try:
            if handler.shouldRollover(_NO_RECORD):
                handler.doRollover()
            assert handler.stream is not None, "it has just been looked at"
            handler.stream.write(b"".join(lines).decode())
            handler.flush()
        except OSError as error:
            raise DeliveryError(f"{handler.baseFilename}: {error.strerror}") from error
        finally:
            handler.release()

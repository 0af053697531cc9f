"""Lines for Serve's file."""

import errno
import json
import logging
from collections.abc import Iterator
from logging.handlers import MemoryHandler, RotatingFileHandler
from pathlib import Path
from typing import Any

import pytest

from serve_app.replica.log_file import SERVE_LOGGER, LogFile, serve_log

COMMON = {"application": "a", "replica": "r"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the file."""
    return tmp_path / "replica.log"


@pytest.fixture
def handler(path: Path) -> Iterator[RotatingFileHandler]:
    """A handler like Serve's, which rotates after some lines."""
    handler = RotatingFileHandler(path, maxBytes=1000, backupCount=2)
    yield handler
    handler.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Its lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_line_is_written_as_it_is(path: Path, handler: RotatingFileHandler) -> None:
    """With whose it is, and when that was."""
    log = LogFile(handler, COMMON, clock=lambda: 1_700_000_000_250_000_000, interval_s=0)
    log.post({"message": "request", "status": 200})
    await log.flush()
    (line,) = read(path)
    assert line.pop("asctime").endswith(",250")
    timestamp = {"timestamp_ns": 1_700_000_000_250_000_000}
    assert line == {"levelname": "INFO", "message": "request", "status": 200, **COMMON, **timestamp}


async def test_more_lines_go_together(
    path: Path, handler: RotatingFileHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, after those of others in the same file."""
    handler.emit(logging.makeLogRecord({"msg": '{"number": "Serve\'s"}'}))
    flush = handler.flush
    flushed: list[None] = []
    monkeypatch.setattr(handler, "flush", lambda: flushed.append(flush()))
    log = LogFile(handler, {}, interval_s=0)
    for number in range(5):
        log.post({"number": number})
    await log.flush()
    assert [line["number"] for line in read(path)] == ["Serve's", 0, 1, 2, 3, 4]
    assert len(flushed) == 1


async def test_the_file_is_rotated(path: Path, handler: RotatingFileHandler) -> None:
    """As Serve does."""
    log = LogFile(handler, {}, interval_s=0)
    for number in range(2):
        log.post({"number": number, "text": "x" * 1000})
        await log.flush()
    assert [line["number"] for line in read(path)] == [1]
    assert [line["number"] for line in read(path.with_suffix(".log.1"))] == [0]


async def test_a_full_disk_is_told_once(
    handler: RotatingFileHandler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing fails."""

    def refuse(_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(handler, "shouldRollover", refuse)
    log = LogFile(handler, {}, interval_s=0)
    for _ in range(2):
        log.post({"number": 1})
        await log.flush()
    (record,) = [each for each in caplog.records if "No space left on device" in each.message]
    assert handler.baseFilename in record.message


def test_serves_file_is_found(handler: RotatingFileHandler) -> None:
    """Behind its buffer; without one it is said what cannot be."""
    logger = logging.getLogger(SERVE_LOGGER)
    before = logger.handlers
    try:
        logger.handlers = [logging.StreamHandler()]
        with pytest.raises(RuntimeError, match="log_requests"):
            serve_log()
        logger.handlers.append(MemoryHandler(1, target=handler))
        assert serve_log() is handler
    finally:
        logger.handlers = before

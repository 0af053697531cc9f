"""Logs of requests: JSON lines, plain or compressed, of any size, read one line at a time."""

import gzip
import io
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import zstandard

MAX_LINE_BYTES = 32 * 2**20
"""A longer line is passed over, so that no log needs more memory than this. The longest prompts of today's models, a
million tokens, are some 5 MB."""
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_PART_BYTES = 2**10
"""Bytes that are decompressed at a time: they become 32 MiB at most, as four of them become 128 KiB at most."""


class Flaw(StrEnum):
    """Why a line, or the rest of a file, was not read."""

    TOO_LONG = "longer than 32 MiB"
    NOT_TEXT = "not UTF-8 text"
    NOT_JSON = "not a JSON object"
    NO_PROMPT = "no request with messages, input or prompt in it"
    NOT_RENDERED = "refused by the model's chat template, or several prompts in one"
    DAMAGED = "the compressed file is damaged from here on"


class LogPlace(NamedTuple):
    """A line's place in the logs."""

    file: Path
    line: int
    """The line's number, from 1 on."""
    offset: int
    """Number of bytes before the line in the uncompressed file."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = LogPlace(Path(), 0, 0)


class LogLine(NamedTuple):
    """One that is not empty, or what is wrong with it."""

    place: LogPlace
    content: bytes
    flaw: Flaw | None = None


def read_lines(path: Path, on_read: Callable[[int], None] = lambda _: None) -> Iterator[LogLine]:
    """All of a file; `on_read` is told how many more of its bytes were read.

    Raises:
        OSError: it cannot be opened or read.

    """
    with path.open("rb") as file:
        counted = _Counted(file, on_read)
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(GZIP_MAGIC):
            content: Any = gzip.GzipFile(fileobj=counted)
        elif magic == ZSTD_MAGIC:
            content = _Unzipped(counted)
        else:
            content = counted
        yield from _lines(path, io.BufferedReader(content, 2**20))


def _lines(path: Path, content: io.BufferedReader) -> Iterator[LogLine]:
    number = offset = 0
    while True:
        number += 1
        place = LogPlace(path, number, offset)
        try:
            line = content.readline(MAX_LINE_BYTES + 1)
            size = len(line)
            if size > MAX_LINE_BYTES:
                size += _pass_over(content, line)
        except (EOFError, gzip.BadGzipFile, zstandard.ZstdError, OSError):
            yield LogLine(place, b"", Flaw.DAMAGED)
            return
        if not line:
            return
        if number == 1:
            line = line.removeprefix(BOM_UTF8)
        offset += size
        if size > MAX_LINE_BYTES:
            yield LogLine(place, b"", Flaw.TOO_LONG)
        elif line.strip():
            yield LogLine(place, line)


def _pass_over(content: io.BufferedReader, start: bytes) -> int:
    """Read the rest of a line that is too long; returns how many bytes that was."""
    num_bytes, part = 0, start
    while part and not part.endswith(b"\n"):
        part = content.readline(2**20)
        num_bytes += len(part)
    return num_bytes


class _Counted(io.RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, file: BinaryIO, on_read: Callable[[int], None]) -> None:
        self._file = file
        self._on_read = on_read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._on_read(len(content))
        return len(content)


class _Unzipped(io.RawIOBase):
    """The content of a file of zstd frames. Unlike zstandard's own reader, it does not take a frame that was cut off
    for one that ended.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_within_frame = False
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        while not self._content:
            part = self._frame.unused_data or self._file.read(ZSTD_PART_BYTES) or b""
            if not part:
                if self._is_within_frame:
                    raise EOFError
                return 0
            self._content = memoryview(self._unzip(part))
        size = min(len(buffer), len(self._content))
        buffer[:size], self._content = self._content[:size], self._content[size:]
        return size

    def _unzip(self, part: bytes) -> bytes:
        if self._frame.eof:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        content = self._frame.decompress(part)
        self._is_within_frame = not self._frame.eof
        return content

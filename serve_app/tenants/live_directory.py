"""The key file while it changes: read again within a second, and closed as long as it cannot be used."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from serve_app.settings.schema import AccessSettings, IsolationMode
from serve_app.tenants.directory import Directory
from serve_app.tenants.isolation import Isolation
from serve_app.tenants.key_file import KeyFile, KeyFileError
from serve_app.tenants.operator import operator_key

logger = logging.getLogger("ray.serve")

PERIOD_S = 1.0
"""Seconds between two looks at the file. Kubernetes itself takes up to a minute to bring a changed Secret to a pod."""

Version = tuple[int, int, int] | None
"""What tells two versions of a file apart; None while there is none."""
NOT_YET = object()
"""In place of a version, before the file was looked at."""


class LiveDirectory:
    """The directory of now. Who asks while the file cannot be used is refused, whatever was valid before.

    Args:
        path: of the key file.
        mode: see `Isolation`.

    Raises:
        SecretError: the cluster's secret is not set.

    """

    def __init__(self, path: Path, mode: IsolationMode) -> None:
        self._path = path
        self._mode = mode
        self._version: object = NOT_YET
        self._on_look: list[Callable[[], None]] = []
        self.directory: Directory
        self.fault: str | None = None
        """Why everyone is refused, in a sentence; None while the file is right."""
        self.read_if_changed()

    def read_if_changed(self) -> bool:
        """Read the file if it is another one than last time; says whether it was.

        May take a second with tens of thousands of tenants, and may be called in a thread of its own.
        """
        version = version_of(self._path)
        if version == self._version:
            return False
        key_file, fault = KeyFile(tenants={}), None
        try:
            key_file = KeyFile.load(self._path)
            logger.info("Keys of %d tenants are valid now", len(key_file.tenants))
        except KeyFileError as error:
            fault = str(error)
            logger.error("Every key is refused: %s", fault)  # noqa: TRY400  the sentence is enough
        isolation = Isolation(self._mode, version=key_file.salt_version)
        self.directory = Directory.of(key_file, isolation, own_key=operator_key())
        self.fault, self._version = fault, version
        return True

    def salt(self, tenant: str) -> str | None:
        """The salt of a tenant's prompts; None of an unknown one."""
        return self.directory.salt(tenant)

    def listen(self, on_look: Callable[[], None]) -> None:
        """Call this after each look at the file: what it says may have changed, and keys expire as time passes."""
        self._on_look.append(on_look)

    async def follow(self) -> None:
        """Look at the file for ever."""
        while True:
            await asyncio.sleep(PERIOD_S)
            await asyncio.to_thread(self.read_if_changed)
            for on_look in self._on_look:
                on_look()


def live_directory(access: AccessSettings) -> LiveDirectory | None:
    """The directory that the settings name; None where any key is accepted."""
    return None if access.key_file is None else LiveDirectory(access.key_file, access.isolation)


def version_of(path: Path) -> Version:
    """Kubernetes changes a Secret by a link to another folder, which `stat` follows."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino

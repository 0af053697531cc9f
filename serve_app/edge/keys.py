"""API keys at HAProxy: whoever has none is answered 401 there, before the body is read, a router or a replica is asked.

HAProxy looks the SHA-256 of a key up in a map, which has the tenant and the time of expiry. The map is made of the key
file whenever HAProxy starts; a process of its own beside each HAProxy, which ends with it, hands over what changes:
`python -m serve_app.edge.keys SOCKET KEY_FILE MAP`.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from itertools import islice
from pathlib import Path

from serve_app.edge.admin_socket import tell
from serve_app.edge.beside import start_beside
from serve_app.tenants.api_key import key_digest
from serve_app.tenants.key_file import KeyFile, KeyFileError
from serve_app.tenants.live_directory import NOT_YET, PERIOD_S, version_of
from serve_app.tenants.operator import OPERATOR, operator_key

logger = logging.getLogger("warmroute-haproxy")

MAP_NAME = "warmroute_keys.map"
CLOSED = "closed"
"""A line of this name stands in the map while the key file cannot be used."""
NEVER = 0
"""The expiry of a key that has none."""
LINES_AT_ONCE = 4096
"""Lines in one command, which must fit in a buffer of HAProxy's."""


class KeyMapError(Exception):
    """HAProxy did not take the map; the message is HAProxy's."""


def map_lines(key_file: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """The map of a key file: `DIGEST TENANT EXPIRY`, in Unix seconds.

    Raises:
        SecretError: the cluster's secret is not set.

    """
    yield f"{key_digest(operator_key(environment).encode())} {OPERATOR} {NEVER}"
    try:
        content = KeyFile.load(key_file)
    except KeyFileError as error:
        logger.error("Every key is refused: %s", error)  # noqa: TRY400  the sentence is enough
        yield f"{CLOSED} - {NEVER}"
        return
    for name, tenant in content.tenants.items():
        for key in tenant.keys:
            # Rounded down: HAProxy counts whole seconds, and a replica goes by the exact time.
            expires = NEVER if key.expires is None else max(1, math.floor(key.expires.astimezone(UTC).timestamp()))
            yield f"{key.sha256} {name} {expires}"


def start_watching(admin_socket: Path, key_file: Path, key_map: Path) -> None:
    """Start watching in a child of this process, which becomes HAProxy."""
    start_beside(__name__, admin_socket, key_file, key_map)


def watch(admin_socket: Path, key_file: Path, key_map: Path, *, wait: Callable[[float], object] = time.sleep) -> None:
    """Watch for ever: HAProxy goes by what the key file has. What HAProxy did not take is handed over again."""
    served: object = NOT_YET  # the file may have changed since HAProxy's map was made
    while True:
        version = version_of(key_file)
        if version != served:
            try:
                replace(admin_socket, key_map, map_lines(key_file))
                served = version
            except (OSError, KeyMapError) as error:
                logger.error("HAProxy's keys were not renewed: %s", error)  # noqa: TRY400  the reason is enough
        wait(PERIOD_S)


def replace(admin_socket: Path, key_map: Path, lines: Iterator[str]) -> None:
    """Replace the whole map in one step.

    Raises:
        KeyMapError: HAProxy does not take it.
        OSError: HAProxy does not answer.

    """
    made = tell(admin_socket, f"prepare map {key_map}\n").strip()
    label, _, number = made.rpartition(" ")
    if not label.startswith("New version created"):
        raise KeyMapError(made)
    while part := list(islice(lines, LINES_AT_ONCE)):
        _told(admin_socket, f"add map @{number} {key_map} <<\n" + "\n".join(part) + "\n\n")
    _told(admin_socket, f"commit map @{number} {key_map}\n")


def _told(admin_socket: Path, command: str) -> None:
    answer = tell(admin_socket, command).strip()
    if answer:  # HAProxy says nothing where all is well
        raise KeyMapError(answer)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    watch(*map(Path, sys.argv[1:]))

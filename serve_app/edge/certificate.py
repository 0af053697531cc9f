"""Hands a renewed certificate to a running HAProxy, so that no connection ends for it.

A process of its own beside each HAProxy, which ends with it: `python -m serve_app.edge.certificate SOCKET CERTIFICATE`.
"""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from serve_app.edge.admin_socket import tell
from serve_app.edge.beside import start_beside

logger = logging.getLogger("warmroute-haproxy")

PERIOD_S = 10.0


class CertificateError(Exception):
    """HAProxy did not take the certificate; the message is HAProxy's."""


def start_watching(admin_socket: Path, certificate: Path) -> None:
    """Start watching in a child of this process, which becomes HAProxy."""
    start_beside(__name__, admin_socket, certificate)


def watch(admin_socket: Path, certificate: Path, *, wait: Callable[[float], object] = time.sleep) -> None:
    """Watch for ever: HAProxy serves what the file has. A file that is not right is tried again once it changes."""
    served = certificate.read_bytes()
    while True:
        wait(PERIOD_S)
        try:
            found = certificate.read_bytes()
            if found == served:
                continue
            served = found
            replace(admin_socket, certificate, found.decode("ascii"))
            logger.info("%s was renewed", certificate)
        except (OSError, UnicodeDecodeError, CertificateError) as error:
            logger.error("%s was not renewed: %s", certificate, error)  # noqa: TRY400  the reason is enough


def replace(admin_socket: Path, certificate: Path, content: str) -> None:
    """Replace the certificate for connections from now on.

    Raises:
        CertificateError: it is not a certificate with its key.
        OSError: HAProxy does not answer.

    """
    # An empty line ends what HAProxy reads, so there must be none within.
    lines = "\n".join(line for line in content.splitlines() if line.strip())
    answer = tell(admin_socket, f"set ssl cert {certificate} <<\n{lines}\n\n")
    if "Transaction created" not in answer and "Transaction updated" not in answer:
        raise CertificateError(answer.strip())
    answer = tell(admin_socket, f"commit ssl cert {certificate}\n")
    if "Success" not in answer:
        raise CertificateError(answer.strip())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    watch(*map(Path, sys.argv[1:]))

"""HAProxy's administrative socket, by which it is told and asked things. A reload hands it to the new process."""

import socket
from pathlib import Path

TIMEOUT_S = 10.0
RECEIVED_BYTES = 4096


def tell(admin_socket: Path, command: str) -> str:
    """HAProxy's answer to a command.

    Raises:
        OSError: HAProxy does not answer.

    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(admin_socket))
        connection.sendall(command.encode())
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(RECEIVED_BYTES), b"")).decode()

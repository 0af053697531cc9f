"""API keys: `keys new`, `keys list`, `keys rotate`, `keys revoke`."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from serve_app.tenants.key_changes import Made, make_key, revoke_key, rotate_key
from serve_app.tenants.key_file import KeyEntry, KeyFile, KeyFileError
from warmroute.terminal import console, fail

group = typer.Typer(no_args_is_help=True, help="API keys of tenants, kept as hashes in a key file.")
PANEL = "Steer a running application"

UNIT_TO_S = {"m": 60, "h": 3600, "d": 86_400}
LIFETIME = re.compile(r"([1-9][0-9]{0,5})([mhd])")
SHOWN = "%Y-%m-%d %H:%M"

Result = TypeVar("Result")
FileOption = Annotated[
    Path, typer.Option("--file", help="The key file, as `access.key_file` in the settings; `.json` is read faster.")
]
LifetimeOption = Annotated[str | None, typer.Option("--expires", help="Lifetime: 30m, 12h, 90d; default: no end.")]
TenantArgument = Annotated[str, typer.Argument(help="The tenant's name, in lower case.")]


@group.command()
def new(
    tenant: TenantArgument,
    file: FileOption = Path("keys.yaml"),
    expires: LifetimeOption = None,
    group_name: Annotated[str | None, typer.Option("--group", help="Group whose tenants share their cache.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model or adapter that it may ask for; default: all.")
    ] = None,
) -> None:
    """Make a key for a tenant, and print it once. The file is made if there is none."""
    content = _done(lambda: KeyFile.load(file)) if file.exists() else KeyFile(tenants={})
    lifetime = _lifetime(expires)
    made = _done(lambda: make_key(content, tenant, now=_now(), lifetime=lifetime, group=group_name, models=model or ()))
    _save_and_show(made, file)


@group.command()
def rotate(
    tenant: TenantArgument,
    file: FileOption = Path("keys.yaml"),
    overlap: Annotated[str, typer.Option(help="Time for which the old key goes on being valid.")] = "24h",
    expires: LifetimeOption = None,
) -> None:
    """Make a key that takes the place of a tenant's present one, and print it once."""
    content = _done(lambda: KeyFile.load(file))
    ends = _lifetime(overlap) or timedelta(0)
    lifetime = _lifetime(expires)
    made = _done(lambda: rotate_key(content, tenant, now=_now(), overlap=ends, lifetime=lifetime))
    _save_and_show(made, file)
    console.print(f"The old key is valid for another {overlap}.")


@group.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `warmroute keys list` shows it.")],
    file: FileOption = Path("keys.yaml"),
) -> None:
    """Take a key out of the file. Within 5 s it is refused everywhere, and its running streams end."""
    tenant, content = _done(lambda: revoke_key(KeyFile.load(file), key_id))
    _save(content, file)
    console.print(f"Key {key_id} of {tenant} is revoked in {file}.")


@group.command("list")
def list_keys(file: FileOption = Path("keys.yaml")) -> None:
    """List the keys of all tenants by their ids; the keys themselves are not kept."""
    content, now = _done(lambda: KeyFile.load(file)), _now()
    table = Table("tenant", "key", "state", "made", "expires", "group", "models", box=None, pad_edge=False)
    for name, tenant in sorted(content.tenants.items()):
        for key in tenant.keys:
            models = "all" if tenant.models is None else ", ".join(tenant.models)
            state = "live" if key.is_live(now) else "expired"
            table.add_row(name, key.id, state, _shown(key.created), _ends(key), tenant.group or "", models)
    console.print(table)


def _save_and_show(made: Made, file: Path) -> None:
    _save(made.file, file)
    console.print(f"Key {made.key.id}, now in {file} as a hash. This is the only time that it is shown:")
    console.print(made.key.text)


def _save(content: KeyFile, file: Path) -> None:
    try:
        content.save(file)
    except OSError as error:
        fail(f"the key file {file} cannot be written: {error.strerror}")


def _done(action: Callable[[], Result]) -> Result:
    """An action's result; a fault ends the command in a sentence."""
    try:
        return action()
    except KeyFileError as error:
        fail(str(error))


def _lifetime(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = LIFETIME.fullmatch(text)
    if found is None:
        fail(f"{text!r} is no duration: write minutes, hours or days, as in 30m, 12h, 90d")
    return timedelta(seconds=int(found[1]) * UNIT_TO_S[found[2]])


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _shown(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime(SHOWN)


def _ends(key: KeyEntry) -> str:
    return "never" if key.expires is None else _shown(key.expires)

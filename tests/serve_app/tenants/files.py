"""Key files for tests."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from serve_app.tenants.key_changes import make_key
from serve_app.tenants.key_file import KeyFile

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
SECRET = {"WARMROUTE_SECRET": "s" * 32}


def with_keys(*tenants: str, lifetime: timedelta | None = None, group: str | None = None) -> tuple[KeyFile, list[str]]:
    """A file with a key for each of these tenants, and the keys."""
    file, keys = KeyFile(tenants={}), []
    for tenant in tenants:
        made = make_key(file, tenant, now=NOW, lifetime=lifetime, group=group)
        file = made.file
        keys.append(made.key.text)
    return file, keys


def written(file: KeyFile, folder: Path, name: str = "keys.yaml") -> Path:
    """The file in a folder."""
    path = folder / name
    file.save(path)
    return path

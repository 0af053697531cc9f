"""The model that is served, and its adapters: clients name either in a request's field `model`.

vLLM keeps the cached prefixes of each adapter apart from those of every other, by its name, and all of them from the
base model's.
"""

import re
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The base model of an application."""

    name: str
    """The only name under which Ray serves it."""
    loads_adapters: bool
    """Whether a replica fetches adapters when they are first asked for, as `<name>:<adapter>`."""

    @classmethod
    def from_llm(cls, llm: dict[str, Any]) -> Self:
        """Read the settings' part of that name."""
        adapters = llm.get("lora_config") or {}
        return cls(llm["model_loading_config"]["model_id"], bool(adapters.get("dynamic_lora_loading_path")))

    def adapter(self, model: object) -> str:
        """The adapter that a request means by its `model`; empty for the base model, which no name at all means, too.

        Adapters come and go while replicas run, so any other name is taken for one: if it is none, vLLM refuses it.
        """
        return model if isinstance(model, str) and model != self.name else ""

    def adapter_to_load(self, adapter: str) -> str | None:
        """The adapter, if Ray has to see to it that the replica has it."""
        if not self.loads_adapters or _LOADABLE.fullmatch(adapter) is None:
            return None
        return adapter if adapter.startswith(f"{self.name}:") else None


_LOADABLE = re.compile(r"[\w./-]{1,200}:\w[\w.:-]{0,200}", re.ASCII)
"""What becomes a header's value by way of HAProxy's Lua pattern, and then a folder's name."""

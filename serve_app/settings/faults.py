"""What is wrong with settings, in sentences. Free of Ray."""

from pydantic import BaseModel, ValidationError

IN_SECONDS = "the decision counts in seconds, by engine_model, and has no such number to set"
REMOVED_KEYS = {
    f"routing.{name}": IN_SECONDS
    for name in (
        "weight_base",
        "weight_per_waiting",
        "decode_tokens",
        "recent_weight",
        "tie_share",
        "load_factor",
        "load_margin_tokens",
        "giant_share",
    )
}
"""Settings of earlier versions, and why they are gone."""


def explain(error: ValidationError, settings: type[BaseModel]) -> str:
    """A line for each fault: the key, the value and what is allowed, by the model of all settings."""
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "the file"
        if fault["type"] == "extra_forbidden":
            lines.append(_not_a_setting(fault["loc"], settings))
        elif fault["type"] == "missing":
            lines.append(f"{key} is missing and has no default")
        else:
            lines.append(f"{key} = {fault['input']!r}: {fault['msg']}")
    return "\n".join(f"  {line}" for line in lines)


def _not_a_setting(location: tuple[int | str, ...], settings: type[BaseModel]) -> str:
    key = ".".join(map(str, location))
    if key in REMOVED_KEYS:
        return f"{key} is no setting any more: {REMOVED_KEYS[key]}; leave it out"
    return f"{key} is not a setting; allowed here: {', '.join(_allowed_keys(location[:-1], settings))}"


def _allowed_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        model = annotation
    return sorted(model.model_fields)

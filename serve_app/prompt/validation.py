r"""Bodies of requests are validated as vLLM does it, but no body can keep a process busy for long.

A list is refused at its first wrong item, not after all of them. An item of the Responses API's `input` may be one of
some thirty kinds, and pydantic says of a wrong one why it is none of them: over 200 errors for each `{}`, milliseconds
and 400 kB of text. A kilobyte of these would keep a process busy for a second, so validation ends with the list's first
wrong item (pydantic-core's `fail_fast`).

A body that is right can be too much as well: a Responses message takes a tenth of a millisecond. One with more
messages, parts of them or tools than a model has tokens of context would be refused when all is rendered, and is
refused for that before. So is one that asks for more sequences than may ever wait in a replica. In a router, a long
list is validated in slices, between which others have their turn.

JSON can write half of a character (`"\ud83d"` alone, as a client does that cuts a text in the middle of one). Nothing
that comes after can: no tokenizer, no message to the engine, no answer, no log.

Adapter: private names of FastAPI and pydantic are listed in tests/serve_app/test_private_names.py.
"""

import asyncio
import contextlib
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi import Request as FastApiRequest
from fastapi.dependencies.utils import get_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import TemplateError
from pydantic import BaseModel, TypeAdapter
from pydantic_core import SchemaValidator, core_schema

from serve_app.prompt.body import num_choices_of, num_prompts_of, num_sequences_of

Request = TypeVar("Request", bound=BaseModel)

KINDS_OF_DATA = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TemplateError,
    TypeError,
    ValueError,
)
"""Kinds of errors that a program raises when data has another form, or another size, than it expected."""
MISREADINGS = (AttributeError, LookupError, RecursionError)
"""Kinds of them that vLLM has no answer to."""
VALIDATING = TypeAdapter.validate_python.__code__
SLICE_ITEMS = 64
"""Items that are validated at a time: about ten milliseconds of Responses messages."""
PROMPT_FIELDS = ("messages", "input", "tools", "documents", "chat_template_kwargs")
"""Fields of which prompts are rendered."""
COLLECTIONS = ("dict", "frozenset", "list", "set", "tuple")
"""Types of collections, as pydantic-core's schemas name them."""
NAME_FIELDS = ("model", "previous_response_id", "request_id")
"""Fields that vLLM repeats in answers and in its log."""
MAX_NAME_CHARS = 1024
"""Longest value of such a field."""
MAX_ERRORS = 8
"""Number of errors that are told of a wrong body at most."""
MAX_INPUT_CHARS = 100
"""Length to which each error quotes what was wrong."""


def fail_fast(*models: type[BaseModel]) -> None:
    """Let validation of these end with the first wrong item, from now on in this process."""
    for model in models:
        model.__pydantic_validator__ = _failing_fast(model.__pydantic_core_schema__)


def check_num_objects(fields: Mapping[str, Any], *, max_objects: int) -> None:
    """Check the number of messages, their parts and tools, each of which becomes at least one token of the prompt.

    Raises:
        ValueError: a body has more of them than a prompt can have tokens.

    """
    for name in PROMPT_FIELDS:
        num_objects = _num_objects(fields.get(name), max_objects)
        if num_objects > max_objects:
            raise ValueError(
                f"{name} has {num_objects} objects or more, and the model takes {max_objects} tokens: send fewer"
            )


def check_num_sequences(fields: Mapping[str, Any], *, max_sequences: int) -> None:
    """Check the number of sequences: one for each answer to each prompt.

    Raises:
        ValueError: a body asks for more of them.

    """
    num_sequences = num_sequences_of(fields)
    if num_sequences > max_sequences:
        raise ValueError(
            f"n = {num_choices_of(fields)} answers to each of {num_prompts_of(fields)} prompts are {num_sequences} "
            f"sequences, and a replica takes {max_sequences} at a time: send fewer"
        )


def check_texts(fields: Mapping[str, Any]) -> None:
    """Check that all texts are made of whole characters.

    Raises:
        ValueError: a text has half of one, which cannot be written in UTF-8.

    """
    for name, value in fields.items():
        if _has_half_character(name) or _has_half_character(value):
            raise ValueError(
                f"{name.encode(errors='replace').decode()} has half of a character, a surrogate without its other "
                "half: send whole characters, and cut texts between them"
            )


def check_names(fields: Mapping[str, Any]) -> None:
    """Check that names are no longer than names.

    Raises:
        ValueError: one is as long as a text.

    """
    for name in NAME_FIELDS:
        value = fields.get(name)
        if isinstance(value, str) and len(value) > MAX_NAME_CHARS:
            raise ValueError(f"{name} has {len(value)} characters: a name has {MAX_NAME_CHARS} at most")


def bound_validation(app: FastAPI, *, max_objects: int, max_sequences: int) -> None:
    """Check all bodies that an app takes for the number of objects and of sequences, for texts and for names; its
    answers then say in a few words what is wrong.
    """

    def check(fields: Any) -> Any:  # noqa: ANN401  whatever a client sent
        if isinstance(fields, dict):
            check_num_objects(fields, max_objects=max_objects)
            check_num_sequences(fields, max_sequences=max_sequences)
            check_texts(fields)
            check_names(fields)
        return fields

    async def check_unread(request: FastApiRequest) -> None:
        """Check the body of a route that reads it itself, and then says whether it is JSON at all."""
        with contextlib.suppress(json.JSONDecodeError):
            try:
                check(await request.json())
            except json.JSONDecodeError:
                raise
            except (RecursionError, ValueError) as error:
                raise _wrong_body(str(error)) from error

    for route in app.routes:
        if isinstance(route, APIRoute) and route.body_field is not None:
            adapter = route.body_field._type_adapter  # noqa: SLF001
            checked = core_schema.no_info_before_validator_function(check, adapter.core_schema)
            adapter.validator = _failing_fast(checked)
        elif isinstance(route, APIRoute) and route.dependencies:  # as SageMaker's, which takes whatever others take
            route.dependant.dependencies.append(get_dependant(path=route.path_format, call=check_unread))
    _answer_wrong_bodies(app)


def _answer_wrong_bodies(app: FastAPI) -> None:
    """Answer wrong bodies briefly, whatever is raised where one is validated."""
    answer = app.exception_handlers[RequestValidationError]

    async def answer_briefly(request: FastApiRequest, error: RequestValidationError) -> Any:  # noqa: ANN401  as its own
        return await answer(request, RequestValidationError(briefly(error.errors())))  # type: ignore[misc]

    async def answer_unless_ours(request: FastApiRequest, error: Exception) -> Any:  # noqa: ANN401  likewise
        """Answer errors of vLLM's own validators, some of which take a body's form for granted."""
        if all(frame.f_code is not VALIDATING for frame, _line in traceback.walk_tb(error.__traceback__)):
            raise error
        return await answer_briefly(request, _wrong_body(f"a part has a wrong form ({type(error).__name__})"))

    app.add_exception_handler(RequestValidationError, answer_briefly)  # type: ignore[arg-type]
    for kind in MISREADINGS:
        app.add_exception_handler(kind, answer_unless_ours)


def _wrong_body(message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": ("body",), "msg": message, "input": None}])


def _failing_fast(schema: Any) -> SchemaValidator:  # noqa: ANN401  of pydantic's
    for collection in _collections(schema, set()):
        collection["fail_fast"] = True
    # Models within have validators of their own, built before.
    return SchemaValidator(schema, None, _use_prebuilt=False)


async def validate(model: type[Request], fields: Mapping[str, Any], name: str) -> Request:
    """Make a request of these fields, of which one may be a long list.

    Raises:
        ValidationError: as of the model.

    """
    items = fields[name]
    if not isinstance(items, list) or len(items) <= SLICE_ITEMS:
        return model.model_validate(fields)
    required = {
        field: fields[field] for field, info in model.model_fields.items() if info.is_required() and field in fields
    }
    request = model.model_validate({**fields, name: items[:SLICE_ITEMS]})
    validated = getattr(request, name)
    for start in range(SLICE_ITEMS, len(items), SLICE_ITEMS):
        await asyncio.sleep(0)
        part = model.model_validate({**required, name: items[start : start + SLICE_ITEMS]})
        validated += getattr(part, name)
    return request


def _num_objects(value: object, enough: int) -> int:
    """Number of objects in a field of a body, and in their own fields; counted no further than `enough`."""
    if isinstance(value, dict):
        return len(value)
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return 0  # texts, or token ids
    num_objects = len(value)
    for item in value if num_objects <= enough else ():
        if isinstance(item, dict):
            num_objects += sum(len(part) for part in item.values() if isinstance(part, list))
    return num_objects


def _has_half_character(value: object) -> bool:
    """Whether a part of a body has one, however deep. Token ids, perhaps a million, are not looked at one by one."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            if not part.isascii() and not _is_unicode(part):
                return True
        elif isinstance(part, dict):
            pending += part
            pending += part.values()
        elif isinstance(part, list) and not set(map(type, part)) <= {int}:
            pending += part
    return False


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def briefly(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pydantic's errors, so few and so short that they fit into an answer."""
    return [{**error, "input": _brief_input(error.get("input"))} for error in errors[:MAX_ERRORS]]


def _brief_input(value: object) -> str:
    if isinstance(value, str):
        return value[:MAX_INPUT_CHARS]
    return str(value) if value is None or isinstance(value, int | float) else f"of type {type(value).__name__}"


def _collections(schema: Any, seen: set[int]) -> Iterator[dict[str, Any]]:  # noqa: ANN401  of pydantic's, any part
    """The lists and the like in a schema, each once."""
    if id(schema) in seen:
        return
    if isinstance(schema, dict):
        seen.add(id(schema))
        if schema.get("type") in COLLECTIONS:  # it may be a field of this name, too
            yield schema
        for part in schema.values():
            yield from _collections(part, seen)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _collections(part, seen)

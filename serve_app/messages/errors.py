"""Errors in the words of the API that is called, wherever a request is refused."""

from http import HTTPStatus
from typing import Any

ANTHROPIC_PATH = "/v1/messages"
"""The paths of Anthropic's API have it in them."""
STATUS_TO_ANTHROPIC_TYPE = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "api_error",
}
STATUS_TO_OPENAI_CODE = {
    HTTPStatus.UNAUTHORIZED: "invalid_api_key",
    HTTPStatus.FORBIDDEN: "model_not_found",
}
"""Codes of OpenAI's that its clients know; of any other status, the code is its number, as vLLM writes it."""
NO_KEY = "Give a valid API key, as `Authorization: Bearer KEY` or as `x-api-key: KEY`."
KEYS_UNKNOWN = "API keys cannot be checked at the moment; try again later."


def error(path: str, status: HTTPStatus, message: str) -> dict[str, Any]:
    """An error as the Anthropic API writes it on its paths, and elsewhere as OpenAI and vLLM do."""
    if ANTHROPIC_PATH in path:
        return {"type": "error", "error": {"type": STATUS_TO_ANTHROPIC_TYPE[status], "message": message}}
    code = STATUS_TO_OPENAI_CODE.get(status)
    kind = status.phrase if code is None else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": status.value if code is None else code}}

"""What the user reads when the application does not start."""

import pytest

from serve_app.local_server import failure_text


def application(message: str, *deployment_messages: str) -> dict[str, object]:
    """Serve's details, as far as they are read."""
    return {
        "status": "DEPLOY_FAILED",
        "message": message,
        "deployments": {str(number): {"message": text} for number, text in enumerate(deployment_messages)},
    }


TRACEBACK = """The replica failed to start:
Traceback (most recent call last):
  File "x.py", line 1, in f
ray.exceptions.RayTaskError: wrapped
RuntimeError: Failed to create it: 1 validation error
max_model_len
  Input should be a valid integer
    For further information visit https://errors.pydantic.dev/2.14/v/int_parsing"""


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (application("Traceback ...\nserve_app.settings.SettingsError:   llm.x = 1: no"), "llm.x = 1: no"),
        (
            application("", TRACEBACK),
            "Failed to create it: 1 validation error\nmax_model_len\n  Input should be a valid integer",
        ),
        (application("No resources for a replica"), "No resources for a replica"),
        (application("", ""), "DEPLOY_FAILED"),
    ],
)
def test_the_last_exception_is_what_is_told(details: dict[str, object], expected: str) -> None:
    """Without tracebacks and links."""
    assert failure_text(details) == expected

"""When a node is ready, on a proxy that is played."""

from pathlib import Path

import httpx
import pytest

from serve_app.control.readiness import HEALTH_PATH, NotReadyError, check_readiness
from serve_app.messages.response_headers import REASON_HEADER, REQUEST_ID_HEADER

ID = {REQUEST_ID_HEADER: "f00d"}
ROUTED = httpx.Response(200, headers=ID)
UNROUTED_HEADERS = {REASON_HEADER: "unrouted"}
MODELS = httpx.Response(200, json={"data": [{"id": "demo"}]})


class Proxy:
    """Answers as told, and remembers what was asked."""

    def __init__(self, *, models: httpx.Response = MODELS, answer: httpx.Response = ROUTED, health: int = 200) -> None:
        self.path_to_response = {
            "/v1/models": models,
            "/v1/completions": answer,
            HEALTH_PATH: httpx.Response(health, text="success"),
        }
        self.asked: list[str] = []

    def check(self, mark: Path, base_url: str = "http://proxy", *, any_answer: bool = False) -> None:
        """One probe."""

        def answer(request: httpx.Request) -> httpx.Response:
            self.asked.append(request.url.path)
            return self.path_to_response[request.url.path.removeprefix("/chat")]

        with httpx.Client(base_url=base_url, transport=httpx.MockTransport(answer)) as client:
            check_readiness(client, mark, any_answer=any_answer)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Not there yet."""
    return tmp_path / "ready"


def test_the_model_is_asked_once(mark: Path) -> None:
    """Then the proxy alone."""
    proxy = Proxy()
    proxy.check(mark)
    assert proxy.asked == ["/v1/models", "/v1/completions", HEALTH_PATH]
    proxy.check(mark)
    assert proxy.asked[3:] == [HEALTH_PATH]


def test_an_application_may_have_a_path_of_its_own(mark: Path) -> None:
    """The proxy's health has not."""
    proxy = Proxy()
    proxy.check(mark, "http://proxy/chat")
    assert proxy.asked == ["/chat/v1/models", "/chat/v1/completions", HEALTH_PATH]


@pytest.mark.parametrize("headers", [ID, ID | {REASON_HEADER: "ring"}], ids=["brief", "full"])
def test_a_request_with_an_id_was_routed(mark: Path, headers: dict[str, str]) -> None:
    """Whatever else the answer says of its way."""
    Proxy(answer=httpx.Response(200, headers=headers)).check(mark)
    assert mark.exists()


@pytest.mark.parametrize("status", [200, 404, 429])
def test_where_headers_are_off_any_answer_of_a_replica_is_taken(mark: Path, status: int) -> None:
    """As not every model completes prompts."""
    Proxy(answer=httpx.Response(status, json={})).check(mark, any_answer=True)
    assert mark.exists()


@pytest.mark.parametrize(
    "response",
    [httpx.Response(404, text="Path '/v1/completions' not found."), httpx.Response(503, json={})],
    ids=["the proxy's own", "an error"],
)
def test_where_headers_are_off_the_proxys_own_words_are_not(mark: Path, response: httpx.Response) -> None:
    """It says them in plain text, before it knows of a replica."""
    with pytest.raises(NotReadyError, match=f"was answered {response.status_code}"):
        Proxy(answer=response).check(mark, any_answer=True)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        (Proxy(models=httpx.Response(404)), "no model is served: 404"),
        (
            Proxy(answer=httpx.Response(200)),
            "was answered 200, x-warmroute-request-id: none; no router placed it, or replicas.explain_headers is off",
        ),
        (Proxy(answer=httpx.Response(200, headers=UNROUTED_HEADERS)), "x-warmroute-request-id: none; no router"),
        (Proxy(answer=httpx.Response(200, headers=ID | {REASON_HEADER: "starting"})), "x-warmroute-reason: starting$"),
        (Proxy(answer=httpx.Response(503, headers=ID)), "was answered 503, routed$"),
    ],
)
def test_before_the_first_routed_answer_it_is_not_ready(mark: Path, proxy: Proxy, message: str) -> None:
    """And says why."""
    with pytest.raises(NotReadyError, match=message):
        proxy.check(mark)
    assert not mark.exists()


def test_a_refusal_under_load_is_an_answer(mark: Path) -> None:
    """Somebody routed it, and a replica refused it."""
    Proxy(answer=httpx.Response(429, headers=ID)).check(mark)
    assert mark.exists()


def test_a_proxy_that_is_ill_is_not_ready(mark: Path) -> None:
    """Whatever was answered before."""
    mark.touch()
    with pytest.raises(NotReadyError, match="the proxy answers 503: success"):
        Proxy(health=503).check(mark)


def test_nobody_there(mark: Path) -> None:
    """Before Serve has started."""
    with (
        httpx.Client(base_url="http://127.0.0.1:9") as client,
        pytest.raises(NotReadyError, match=r"no answer from http://127\.0\.0\.1:9 \(ConnectError\)"),
    ):
        check_readiness(client, mark)

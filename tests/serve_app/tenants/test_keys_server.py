"""API keys on a whole server: HAProxy, routers, and replicas that are reached past it; engines are simulated ones.

Their scheduler and prefix cache are vLLM's own, so what is cached for whom is real. `make test` runs it by itself.
"""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from serve_app.local.cluster import LocalRun
from serve_app.local.haproxy import replica_urls
from serve_app.messages.response_headers import BELIEVED_CACHED_TOKENS_HEADER, REASON_HEADER
from serve_app.settings.cluster_secret import SECRET_VARIABLE
from serve_app.tenants.isolation import Isolation
from serve_app.tenants.key_changes import make_key, revoke_key
from serve_app.tenants.key_file import KeyFile
from tests.servers import serving, shipped_settings

pytestmark = [pytest.mark.own_process, pytest.mark.timeout(900)]

PROMPT = "The ticket for the morning train is valid on Saturday as well. " * 40
EFFECTIVE_S = 5.0
"""A changed key file counts everywhere after this time."""


class Keys:
    """The key file of a running server."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.file = KeyFile(tenants={})

    def add(self, tenant: str, **options: Any) -> str:
        """Make a key for a tenant."""
        made = make_key(self.file, tenant, now=datetime.now(UTC), **options)
        self._save(made.file)
        return made.key.text

    def revoke(self, key: str) -> None:
        """Revoke a key."""
        self._save(revoke_key(self.file, key.split("-")[1])[1])

    def _save(self, file: KeyFile) -> None:
        self.file = file
        file.save(self._path)


class Served:
    """A running server, and the keys with which it began."""

    def __init__(self, run: LocalRun, folder: Path, keys: Keys, acme: str, globex: str) -> None:
        self.run = run
        self.folder = folder
        self.keys = keys
        self.acme = acme
        self.globex = globex
        self.client = httpx.Client(base_url=run.url, timeout=60)

    def ask(self, key: str, path: str = "/v1/completions", **fields: Any) -> httpx.Response:
        """Send one request."""
        body = {"model": self.run.model, "prompt": PROMPT, "max_tokens": 1, **fields}
        return self.client.post(path, json=body, headers={"authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two replicas, two tenants."""
    folder = tmp_path_factory.mktemp("keys")
    keys = Keys(folder / "keys.yaml")
    acme, globex = keys.add("acme"), keys.add("globex")
    settings = shipped_settings("simulated.yaml")
    settings["llm"]["deployment_config"]["num_replicas"] = 2
    settings["replicas"] |= {"tenants": ["acme", "globex"], "kv_events": True}
    settings["access"] = {"key_file": "keys.yaml"}
    with serving(settings, folder) as run:
        served = Served(run, folder, keys, acme, globex)
        with served.client:
            yield served


def cached_tokens(response: httpx.Response) -> int:
    """By the engine."""
    usage = response.raise_for_status().json()["usage"]
    return int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)


def test_a_tenant_finds_its_own_prefix_and_no_other_tenants(served: Served) -> None:
    """The routers know: what they estimate is what the engines reuse, wherever a client's own salt stands."""
    first, again = served.ask(served.acme), served.ask(served.acme)
    assert cached_tokens(first) == 0
    assert cached_tokens(again) > 400
    assert int(again.headers[BELIEVED_CACHED_TOKENS_HEADER]) == cached_tokens(again)
    assert again.headers[REASON_HEADER] != "no_key"
    other = served.ask(served.globex)
    assert cached_tokens(other) == 0
    assert int(other.headers[BELIEVED_CACHED_TOKENS_HEADER]) == 0
    salted = served.ask(served.globex, cache_salt="own")
    assert cached_tokens(salted) == 0
    assert cached_tokens(served.ask(served.globex, cache_salt="own")) > 400


def test_without_a_key_no_port_answers(served: Served) -> None:
    """HAProxy's, and each replica's own."""
    urls = [served.run.url, *replica_urls(served.run.run_dir).values()]
    assert len(urls) == 3
    for url in urls:
        for method, path in (("POST", "/v1/chat/completions"), ("POST", "/v1/messages"), ("GET", "/v1/models")):
            for headers in ({}, {"x-api-key": "wrong"}, {"x-warmroute-tenant": "acme", "x-tenant": "acme"}):
                response = httpx.request(method, url + path, headers=headers)
                assert response.status_code == 401, (url, path)
        assert httpx.get(f"{url}/v1/models", headers={"x-api-key": served.acme}).status_code == 200


def test_the_vendors_clients_understand(served: Served) -> None:
    """They raise their own errors for a wrong key, and get answers with a right one."""
    chat: Any = {"model": served.run.model, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}
    url = f"{served.run.url}/v1"
    with openai.OpenAI(base_url=url, api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(**chat)
    with openai.OpenAI(base_url=url, api_key=served.acme) as client:
        assert client.chat.completions.create(**chat).usage
    with (
        anthropic.Anthropic(base_url=served.run.url, api_key="wrong") as claude,
        pytest.raises(anthropic.AuthenticationError),
    ):
        claude.messages.create(**chat)
    for credentials in ({"api_key": served.acme}, {"auth_token": served.acme}):
        with anthropic.Anthropic(base_url=served.run.url, **credentials) as claude:
            assert claude.messages.create(**chat).usage


def test_changed_keys_count_everywhere_in_time(served: Served) -> None:
    """A new one is taken; a revoked one is refused, and its running stream ends with an error."""
    key = served.keys.add("acme")
    deadline = time.monotonic() + EFFECTIVE_S
    while served.ask(key).status_code != 200:
        assert time.monotonic() < deadline
    lines: list[str] = []
    begun = threading.Event()

    def stream() -> None:
        body = {"model": served.run.model, "prompt": PROMPT, "max_tokens": 10_000, "stream": True, "ignore_eos": True}
        headers = {"authorization": f"Bearer {key}"}
        with served.client.stream("POST", "/v1/completions", json=body, headers=headers) as response:
            for line in response.iter_lines():
                lines.append(line)
                begun.set()

    streaming = threading.Thread(target=stream)
    streaming.start()
    assert begun.wait(60)
    served.keys.revoke(key)
    revoked_at = time.monotonic()
    streaming.join(60)
    assert time.monotonic() - revoked_at < EFFECTIVE_S
    assert "invalid_api_key" in [line for line in lines if line][-1]
    urls = [served.run.url, *replica_urls(served.run.run_dir).values()]
    while True:
        statuses = {httpx.get(f"{url}/v1/models", headers={"x-api-key": key}).status_code for url in urls}
        if statuses == {401}:
            break
        assert time.monotonic() - revoked_at < EFFECTIVE_S
    assert served.ask(served.acme).status_code == 200


def test_a_key_may_be_for_some_models_only(served: Served) -> None:
    """The served one is not among them."""
    key = served.keys.add("limited", models=["other"])
    deadline = time.monotonic() + EFFECTIVE_S
    while (response := served.ask(key)).status_code == 401:
        assert time.monotonic() < deadline
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "model_not_found"


def test_nothing_written_has_a_key_a_salt_or_a_prompt(served: Served) -> None:
    """Logs of HAProxy, routers and replicas, Ray's own files, and the operators' database."""
    run_dir = Path(served.run.run_dir)
    isolation = Isolation("tenant", environment={SECRET_VARIABLE: (run_dir / "secret").read_text()})
    salts = [isolation.salt(tenant, None) for tenant in ("acme", "globex")]
    secrets = [PROMPT[:60], *salts, *(key.rpartition("-")[2] for key in (served.acme, served.globex))]
    folders = (run_dir, Path(served.run.ray_session), served.folder)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    kinds = {kind for path in files for kind in ("replica_", "ops.sqlite", "haproxy") if kind in path.name}
    assert kinds == {"replica_", "ops.sqlite", "haproxy"}
    leaking = [(path.name, secrets.index(secret)) for path in files for secret in secrets if has(path, secret)]
    assert not leaking


def has(path: Path, text: str) -> bool:
    """Whether a file has a text in it."""
    return text.encode() in path.read_bytes()

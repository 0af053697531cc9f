"""Runs a RayService's applications on this machine, exactly as its manifest carries them: does it serve?

kubectl kustomize k8s/overlays/cpu-demo | python -m benchmarks ray_service
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from benchmarks.harness.command import failures_told, make_app
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.running_server import own_server
from serve_app.control.environment import data_path_environment
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.local.cluster import LocalRun
from serve_app.messages.response_headers import REQUEST_ID_HEADER
from serve_app.ops.login import BEARER, TOKEN_VARIABLE
from serve_app.settings.schema import OPS_APPLICATION, Settings

app = make_app()
console = Console(highlight=False, soft_wrap=True)
COUNT_TIMEOUT_S = 30.0
POLL_S = 0.25
NUM_QUESTIONS = 2
QUESTION = "What does it cost to change a ticket for the morning train, and is the seat kept? " * 20


class ManifestError(MeasurementError):
    """The manifest is not as it must be."""


@app.command()
def main() -> None:
    """Read an overlay's manifests from the standard input, serve, ask, and stop. Status 1 if anything is missing."""
    with failures_told():
        try:
            config, settings = read(yaml.safe_load_all(sys.stdin))
            os.environ.setdefault(TOKEN_VARIABLE, secrets.token_hex())  # in place of the Secret
            with own_server(settings, config=config) as run:
                check(run, settings)
        except (httpx.HTTPError, yaml.YAMLError) as error:
            raise MeasurementError(str(error)) from error


def read(objects: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], Settings]:
    """Serve's config as it is, and the settings that it was made from.

    Raises:
        ManifestError: there is not one RayService, or its head has another environment than these settings want.

    """
    everything = list(objects)
    services = [each for each in everything if each["kind"] == "RayService"]
    if len(services) != 1:
        raise ManifestError(f"one RayService is wanted, there are {len(services)}")
    (service,) = services
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    settings = settings_of(config)
    (container,) = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"]
    names = {source["configMapRef"]["name"] for source in container["envFrom"]}
    environments = [each["data"] for each in everything if each["kind"] == "ConfigMap" and name_of(each) in names]
    if environments != [data_path_environment(settings)]:
        raise ManifestError("the head's ConfigMap is not the environment that serveConfigV2 wants")
    return config, settings


def name_of(each: Mapping[str, Any]) -> str:
    """The name of an object."""
    return str(each["metadata"]["name"])


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Settings from which the applications could have been made."""
    (model,) = (each for each in config["applications"] if each["name"] != OPS_APPLICATION)
    (routing,) = (each["user_config"] for each in model["deployments"] if each["name"] == ROUTER_DEPLOYMENT)
    http = {"port": config["http_options"]["port"]}
    named = {key: model[key] for key in ("name", "route_prefix")}
    return Settings.model_validate({**named, **model["args"], "routing": routing, "http": http})


def check(run: LocalRun, settings: Settings) -> None:
    """Readiness as the workers' probe sees it, routed requests, and metrics."""
    for _ in range(2):
        console.print(f"warmroute ready: {ready(run)}")
    with httpx.Client(base_url=run.url, timeout=120) as client:
        before = num_prompts(client)
        for _ in range(NUM_QUESTIONS):
            ask(client, settings.model_id)
        wait_for_prompts(client, before + NUM_QUESTIONS)


def ready(run: LocalRun) -> str:
    """What the probe's command says."""
    command = [sys.executable, "-m", "warmroute", "ready", "--url", run.url, "--mark", f"{run.run_dir}/ready"]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  our own
    if answer.returncode != 0:
        raise ManifestError(f"`warmroute ready`: {answer.stderr}")
    return answer.stdout.strip()


def ask(client: httpx.Client, model: str) -> None:
    """Ask one question, and print what the answer says of itself."""
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8}
    response = client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    usage = response.json()["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    request_id = response.headers.get(REQUEST_ID_HEADER, "none")
    console.print(
        f"/v1/chat/completions: {response.status_code}, {REQUEST_ID_HEADER}: {request_id}; "
        f"{cached} of {usage['prompt_tokens']} prompt tokens cached"
    )


def wait_for_prompts(client: httpx.Client, wanted: float) -> None:
    """The operators' application looks once a second."""
    deadline = time.monotonic() + COUNT_TIMEOUT_S
    while (found := num_prompts(client)) < wanted:
        if time.monotonic() > deadline:
            raise ManifestError(f"/ops/metrics counts {found:.0f} prompts, {wanted:.0f} are wanted")
        time.sleep(POLL_S)
    console.print(f"/ops/metrics: warmroute_prompts_total {found:.0f}, {NUM_QUESTIONS} of them these")


def num_prompts(client: httpx.Client) -> float:
    """Prompts counted over all replicas."""
    headers = {"authorization": f"{BEARER}{os.environ[TOKEN_VARIABLE]}"}
    text = client.get("/ops/metrics", headers=headers).raise_for_status().text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return sum(sample.value for sample in families["warmroute_prompts"].samples if sample.name.endswith("_total"))

"""Every overlay, as kustomize builds it: valid, closed, and carrying exactly what its settings say."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from serve_app.control.environment import data_path_environment
from serve_app.control.readiness import HEALTH_PATH
from serve_app.control.serve_config import serve_config
from serve_app.settings.load import load_settings
from tests.conftest import Require
from tests.k8s.conftest import K8S, ROOT, Build, Object

OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
BUILDS = [*(f"overlays/{name}" for name in OVERLAYS), "load"]
TOOLS = ROOT / ".warmroute" / "manifest-tools" / "bin"
SCHEMAS = ROOT.parent / "shared" / "schemas"
KUBERNETES_VERSION = "1.34"
KIND_TO_SCHEMA = {"RayService": "rayservice_v1", "PodMonitor": "podmonitor_v1", "PrometheusRule": "prometheusrule_v1"}
CLIENTS_PORT = 8000


@pytest.fixture(scope="session")
def tool(require: Require) -> Callable[[str], Path]:
    """A linter, by its name."""

    def found(name: str) -> Path:
        require((TOOLS / name).exists(), f"{name}: `make manifest-tools`")
        return TOOLS / name

    return found


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Those."""
    return [each for each in objects if each["kind"] == kind]


def pod_templates(ray_service: Object) -> Iterator[tuple[str, Object]]:
    """Of each group, by its name."""
    cluster = ray_service["spec"]["rayClusterConfig"]
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]


def as_pod(name: str, template: Object) -> Object:
    """As Kubernetes will see it, but for what KubeRay adds."""
    metadata = {"name": name, "namespace": "warmroute", **template["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def closed(schema: Any) -> Any:
    """The same, without room for fields that it does not know: Kubernetes would drop them silently."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result


@pytest.mark.parametrize("folder", BUILDS)
def test_custom_resources_fit_their_schemas(build: Build, folder: str) -> None:
    """Field by field, and no field that they do not have."""
    if not SCHEMAS.is_dir():
        pytest.skip(f"needs the operators' schemas in {SCHEMAS.name}/")
    for each in build(folder):
        name = KIND_TO_SCHEMA.get(each["kind"])
        if name is not None:
            schema = closed(json.loads((SCHEMAS / f"{name}.json").read_text()))
            schema["properties"]["metadata"] = {"type": "object"}
            jsonschema.Draft202012Validator(schema).validate(each)


@pytest.mark.parametrize("folder", BUILDS)
def test_core_objects_are_valid(build: Build, tool: Callable[[str], Path], tmp_path: Path, folder: str) -> None:
    """The Ray pods' templates among them."""
    objects = [each for each in build(folder) if each["kind"] not in KIND_TO_SCHEMA]
    for ray_service in of_kind(build(folder), "RayService"):
        objects += [as_pod(name, template) for name, template in pod_templates(ray_service)]
    path = tmp_path / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    checked = subprocess.run(
        [tool("kubernetes-validate"), "--strict", "--kubernetes-version", KUBERNETES_VERSION, path],
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_policy_linter_has_nothing_to_say(build: Build, tool: Callable[[str], Path], tmp_path: Path) -> None:
    """But what k8s/checkov.yaml explains; of the Ray pods as well, which it does not see in a RayService."""
    for folder in BUILDS:
        objects = list(build(folder))
        for ray_service in of_kind(objects, "RayService"):
            objects += [as_pod(name, template) for name, template in pod_templates(ray_service)]
        (tmp_path / f"{Path(folder).name}.yaml").write_text(yaml.safe_dump_all(objects))
    checked = subprocess.run(
        [tool("checkov"), "--config-file", K8S / "checkov.yaml", "--directory", tmp_path, "--output", "json"],
        check=False,
        capture_output=True,
        text=True,
    )
    report = json.loads(checked.stdout)
    failed = [f"{each['check_id']} {each['resource']}" for each in report["results"]["failed_checks"]]
    assert failed == []
    assert report["summary"]["passed"] > 100
    assert report["summary"]["parsing_errors"] == 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_ray_service_carries_its_settings(build: Build, overlay: str) -> None:
    """Serve's config, which Ray's own schema reads; and on the head and all workers the data path's environment."""
    from ray.serve.schema import ServeDeploySchema

    settings = load_settings(K8S / "overlays" / overlay / "settings.yaml")
    objects = build(f"overlays/{overlay}")
    (ray_service,) = of_kind(objects, "RayService")
    config = yaml.safe_load(ray_service["spec"]["serveConfigV2"])
    assert config == serve_config(settings)
    ServeDeploySchema.model_validate(config)
    (environment,) = (each for each in of_kind(objects, "ConfigMap") if "RAY_SERVE_ENABLE_HA_PROXY" in each["data"])
    assert environment["data"] == data_path_environment(settings)
    for name, template in pod_templates(ray_service):
        (container,) = template["spec"]["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": environment["metadata"]["name"]}}], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_there_is_a_worker_for_each_replica(build: Build, overlay: str) -> None:
    """With the GPUs that it needs; on a pod none is left over."""
    settings = load_settings(K8S / "overlays" / overlay / "settings.yaml")
    (ray_service,) = of_kind(build(f"overlays/{overlay}"), "RayService")
    (group,) = ray_service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    arguments = settings.llm["engine_kwargs"]
    is_gpu = settings.llm["accelerator_config"]["kind"] == "gpu"
    per_replica = arguments.get("tensor_parallel_size", 1) * arguments.get("pipeline_parallel_size", 1) if is_gpu else 0
    (container,) = group["template"]["spec"]["containers"]
    gpus = int(container["resources"]["limits"].get("nvidia.com/gpu", 0))
    assert group["replicas"] * gpus == settings.llm["deployment_config"]["num_replicas"] * per_replica
    if not is_gpu:
        assert group["replicas"] == settings.llm["deployment_config"]["num_replicas"]
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_clients_reach_the_proxy_alone(build: Build, overlay: str) -> None:
    """The replicas' own ports are the API past the routers, and the dashboard's runs code."""
    objects = build(f"overlays/{overlay}")
    (policy,) = of_kind(objects, "NetworkPolicy")
    (ray_service,) = of_kind(objects, "RayService")
    for _, template in pod_templates(ray_service):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    open_ports = [port["port"] for rule in policy["spec"]["ingress"] if "from" not in rule for port in rule["ports"]]
    assert open_ports == [CLIENTS_PORT]
    from_elsewhere = [rule for rule in policy["spec"]["ingress"] if "namespaceSelector" in str(rule.get("from"))]
    assert all(rule["ports"] for rule in from_elsewhere)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_workers_are_ready_by_a_routed_request(build: Build, overlay: str) -> None:
    """The head is not: KubeRay deploys nothing before it is ready."""
    (ray_service,) = of_kind(build(f"overlays/{overlay}"), "RayService")
    name_to_probe = {
        name: template["spec"]["containers"][0].get("readinessProbe") for name, template in pod_templates(ray_service)
    }
    assert name_to_probe.pop("head") is None
    assert [probe["exec"]["command"] for probe in name_to_probe.values()] == [["warmroute", "ready"]]
    assert HEALTH_PATH == "/-/healthz"  # which KubeRay asks of the proxy on the head

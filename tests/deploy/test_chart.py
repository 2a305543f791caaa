"""The Helm chart: objects are valid, safe and consistent, and the exporter accepts its configuration."""

import base64
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Final

import bcrypt
import kubernetes_validate
import pytest
import requests
import trustme
import yaml
from conftest import eventually, program
from example import full_example
from running import RunningExporter, free_port
from serving import Certificates, write_web_file

from exporter import config
from exporter.config.web_file import read_web_file
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


Object = dict[str, Any]
Values = Mapping[str, Any]

ROOT: Final = Path(__file__).parent.parent.parent
CHART: Final = ROOT / "deploy" / "helm" / "datarobot-exporter"
CASES: Final = tuple(sorted((CHART / "ci").glob("*-values.yaml")))
EVERYTHING: Final = CHART / "ci" / "everything-values.yaml"
MONITORING: Final = CHART / "ci" / "monitoring-values.yaml"
SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text())
WEB_CONFIG: Final = CHART / "ci" / "web-config-values.yaml"
SHARDING: Final = CHART / "ci" / "sharding-values.yaml"

KUBERNETES: Final = ("1.25.0", "1.29.0", "1.33.0", "1.37.0")
VERSION: Final = f"--kube-version={KUBERNETES[-1]}"
OPERATOR: Final = "monitoring.coreos.com/v1"
TOKEN: Final = "not-a-real-token"
PASSWORD: Final = "obviously-fake-password"
USERS: Final = {"prometheus": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}
MINIMAL: Final[Values] = {
    "image": {"repository": "datarobot-exporter"},
    "config": {"accounts": [{"name": "production", "endpoint": "https://datarobot.example.com/api/v2"}]},
    "credentials": {"tokens": {"production": TOKEN}},
}

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)


def merged(values: Values, more: Values) -> Object:
    both = {
        key: merged(values[key], value) if key in values and isinstance(value, Mapping) else value
        for key, value in more.items()
    }
    return {**values, **both}


def helm(*arguments: str | Path, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm; values, if any, are passed on standard input."""
    return subprocess.run(
        [program("helm"), *arguments, *(() if values is None else ("-f", "-"))],
        input=None if values is None else json.dumps(values),
        check=False,
        capture_output=True,
        text=True,
    )


@cache
def template(*arguments: str | Path, values: str | None = None, release: str = "watch") -> tuple[Object, ...]:
    done = helm(
        *("template", release, CHART, "--namespace=there", VERSION),
        *arguments,
        values=None if values is None else json.loads(values),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document is not None)


def rendered(case: Path) -> tuple[Object, ...]:
    return template("-f", case)


def rendered_of(more: Values, **options: str) -> tuple[Object, ...]:
    """Render the minimal values merged with more."""
    return template(values=json.dumps(merged(MINIMAL, more)), **options)


def refused(values: Values) -> str:
    done = helm("template", "watch", CHART, VERSION, values=values)
    assert done.returncode != 0
    return done.stderr


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def only(objects: Sequence[Object], kind: str) -> Object:
    (found,) = of_kind(objects, kind)
    return found


def workload(objects: Sequence[Object]) -> Object:
    """The Deployment or StatefulSet."""
    (found,) = (*of_kind(objects, "Deployment"), *of_kind(objects, "StatefulSet"))
    return found


def service_of(objects: Sequence[Object]) -> Object:
    """The Service of the exporter, not the headless one of the shards."""
    (found,) = (found for found in of_kind(objects, "Service") if "clusterIP" not in found["spec"])
    return found


def pods(objects: Sequence[Object]) -> list[Object]:
    """The exporter's pod and the pod of `helm test`."""
    return [workload(objects)["spec"]["template"], only(objects, "Pod")]


def configuration(objects: Sequence[Object]) -> str:
    (text,) = (
        found["data"]["config.yaml"]
        for found in of_kind(objects, "ConfigMap")
        if "config.yaml" in found["data"]
    )
    assert isinstance(text, str)
    return text


def annotations(more: Values) -> Mapping[str, str]:
    found = only(rendered_of(more), "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert isinstance(found, dict)
    return found


# Objects


@every_case
def test_lint_passes(case: Path) -> None:
    done = helm("lint", "--strict", CHART, "-f", case)
    assert done.returncode == 0, done.stdout
    assert set(re.findall(r"\[(?:INFO|WARNING|ERROR)\].*", done.stdout + done.stderr)) == {
        "[INFO] Chart.yaml: icon is recommended"
    }


@every_case
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_object(case: Path, version: str) -> None:
    """By the schemas of Kubernetes, without unknown keys."""
    for found in rendered(case):
        if found["apiVersion"] != OPERATOR:
            kubernetes_validate.validate(found, version, strict=True)


@every_case
def test_no_object_is_rendered_twice(case: Path) -> None:
    keys = [
        (found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"])
        for found in rendered(case)
    ]
    assert sorted(set(keys), key=repr) == sorted(keys, key=repr)


def test_the_cases_render_every_template() -> None:
    cases = (EVERYTHING, CHART / "ci" / "persistence-values.yaml", SHARDING)
    said = "".join(helm("template", "watch", CHART, VERSION, "-f", case).stdout for case in cases)
    sources = re.findall("^# Source: datarobot-exporter/(.*)$", said, re.MULTILINE)
    assert set(sources) == {str(path.relative_to(CHART)) for path in (CHART / "templates").rglob("*.yaml")}


def test_optional_parts_are_off_by_default() -> None:
    assert sorted(found["kind"] for found in rendered_of({})) == [
        *("ConfigMap", "Deployment", "Pod", "Secret", "Service", "ServiceAccount")
    ]


@every_case
def test_objects_carry_the_recommended_labels(case: Path) -> None:
    for found in rendered(case):
        if found["metadata"]["name"].endswith("note"):
            continue
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "datarobot-exporter"
        assert labels["app.kubernetes.io/instance"] == "watch"
        assert labels["app.kubernetes.io/part-of"] == "datarobot-exporter"
        assert labels["app.kubernetes.io/version"] == project()["version"]
        assert all(re.fullmatch("[A-Za-z0-9._-]{1,63}", label) for label in labels.values())


@pytest.mark.parametrize(
    ("release", "more", "name"),
    [
        ("watch", {}, "watch-datarobot-exporter"),
        ("datarobot-exporter-eu", {}, "datarobot-exporter-eu"),
        ("watch", {"nameOverride": "tasks"}, "watch-tasks"),
        ("watch", {"fullnameOverride": "tasks"}, "tasks"),
        ("r" * 53, {}, f"{'r' * 53}-datarobot"),
    ],
)
def test_names_of_objects(release: str, more: Values, name: str) -> None:
    """Short enough for a Service, whatever the release's name is."""
    objects = rendered_of(more, release=release)
    assert only(objects, "Deployment")["metadata"]["name"] == name
    assert only(objects, "Service")["metadata"]["name"] == name
    assert max(len(found["metadata"]["name"]) for found in objects) <= 63


@every_case
def test_selectors_match_the_exporter_only(case: Path) -> None:
    """The pod of `helm test` has most of the labels, and must not be scraped or counted as a replica."""
    objects = rendered(case)
    exporter, test = (pod["metadata"]["labels"].items() for pod in pods(objects))
    selectors = [
        workload(objects)["spec"]["selector"]["matchLabels"],
        *(found["spec"]["selector"] for found in of_kind(objects, "Service")),
        *(found["spec"]["podSelector"]["matchLabels"] for found in of_kind(objects, "NetworkPolicy")),
        *(found["spec"]["selector"]["matchLabels"] for found in of_kind(objects, "PodDisruptionBudget")),
    ]
    for selector in selectors:
        assert selector.items() <= exporter
        assert not selector.items() <= test
    for monitor in of_kind(objects, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        services = of_kind(objects, "Service")
        selected = [found for found in services if selector <= found["metadata"]["labels"].items()]
        assert selected == [service_of(objects)]


@every_case
def test_ports_are_the_one_that_the_exporter_listens_on(case: Path) -> None:
    objects = rendered(case)
    (container,) = workload(objects)["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    web = (yaml.safe_load(configuration(objects)) or {}).get("web", {})
    assert port["containerPort"] == int(web.get("listen_address", ":10072").rpartition(":")[2])
    scheme = "https" if "config_file" in web else "http"
    probed = {"port": port["name"], **({"scheme": "HTTPS"} if scheme == "https" else {})}
    assert container["livenessProbe"]["httpGet"] == {"path": "/-/healthy", **probed}
    assert container["readinessProbe"]["httpGet"] == {"path": "/-/ready", **probed}
    service = service_of(objects)
    (served,) = service["spec"]["ports"]
    assert served["targetPort"] == port["name"]
    (tester,) = only(objects, "Pod")["spec"]["containers"]
    if of_kind(objects, "Deployment"):
        assert tester["args"][-1] == f"--url={scheme}://{service['metadata']['name']}:{served['port']}"
    for monitor in of_kind(objects, "ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] == served["name"]
        assert endpoint["path"] == web.get("telemetry_path", "/metrics")
        assert endpoint.get("scheme", "http") == scheme
    for policy in of_kind(objects, "NetworkPolicy"):
        (rule,) = policy["spec"]["ingress"]
        assert rule["ports"] == [{"port": port["name"], "protocol": "TCP"}]


# Safety


@every_case
def test_pods_are_restricted(case: Path) -> None:
    """The Pod Security Standard "restricted", rule by rule, and a read-only root file system."""
    for pod in pods(rendered(case)):
        spec = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["runAsGroup"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume} - {"name"}
        assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not any("hostPort" in port for port in container.get("ports", []))
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["resources"]["limits"].keys() == {"memory"}


@pytest.mark.parametrize("case", [EVERYTHING, SHARDING], ids=lambda case: case.stem)
def test_pods_are_spread_among_those_of_the_exporter(case: Path) -> None:
    """A constraint without labelSelector selects no pod at all."""
    pod = workload(rendered(case))["spec"]["template"]
    (constraint,) = pod["spec"]["topologySpreadConstraints"]
    selected = constraint["labelSelector"]["matchLabels"].items()
    assert selected <= pod["metadata"]["labels"].items()
    own = {"matchLabels": {"a": "b"}}
    given = rendered_of({"topologySpreadConstraints": [{"maxSkew": 1, "labelSelector": own}]})
    (constraint,) = workload(given)["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert constraint == {"maxSkew": 1, "labelSelector": own}


@every_case
def test_pods_have_no_access_to_the_kubernetes_api(case: Path) -> None:
    """Nor variables of Services: those of one named datarobot-exporter would look like the exporter's."""
    objects = rendered(case)
    assert only(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    for pod in pods(objects):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
        assert pod["spec"]["serviceAccountName"] == only(objects, "ServiceAccount")["metadata"]["name"]


def test_an_existing_service_account_can_be_used() -> None:
    objects = rendered_of({"serviceAccount": {"create": False, "name": "mine"}})
    assert of_kind(objects, "ServiceAccount") == []
    assert {pod["spec"]["serviceAccountName"] for pod in pods(objects)} == {"mine"}


def test_two_exporters_never_run_at_the_same_time() -> None:
    spec = only(rendered_of({}), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_a_token_of_the_values_is_in_the_secret_only() -> None:
    objects = rendered(EVERYTHING)
    secret = only(objects, "Secret")
    assert secret["data"] == {"production": base64.b64encode(TOKEN.encode()).decode()}
    others = json.dumps([found for found in objects if found is not secret])
    assert TOKEN not in others
    assert secret["data"]["production"] not in others


def test_an_existing_secret_is_mounted_by_its_keys() -> None:
    """As files with the accounts' names that only the exporter's group can read."""
    objects = rendered(CHART / "ci" / "accounts-values.yaml")
    assert of_kind(objects, "Secret") == []
    volumes = workload(objects)["spec"]["template"]["spec"]["volumes"]
    (tokens,) = (volume["secret"] for volume in volumes if volume["name"] == "tokens")
    assert tokens == {
        "secretName": "datarobot-tokens",
        "defaultMode": 0o440,
        "items": [
            {"key": "Research_1.eu", "path": "Research_1.eu"},
            {"key": "production-token", "path": "production"},
        ],
    }


def test_the_network_policy_limits_ingress_and_egress() -> None:
    spec = only(rendered(EVERYTHING), "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    scraper, tester = spec["ingress"][0]["from"]
    assert scraper == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    labels = only(rendered(EVERYTHING), "Pod")["metadata"]["labels"].items()
    assert tester["podSelector"]["matchLabels"].items() <= labels
    dns, api, extra = spec["egress"]
    assert dns["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    (resolver,) = dns["to"]
    assert resolver == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    assert api == {
        "ports": [{"port": 443, "protocol": "TCP"}, {"port": 3128, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
    }
    assert extra["ports"] == [{"port": 8443, "protocol": "TCP"}]


def test_the_network_policy_allows_all_peers_by_default() -> None:
    spec = only(rendered_of({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]
    assert [rule.keys() for rule in spec["ingress"]] == [{"ports"}]
    assert [rule.keys() for rule in spec["egress"]] == [{"ports"}, {"ports"}]


# The configuration


def put_into(directory: Path, objects: Sequence[Object]) -> Path:
    """Write the files of the exporter's container; return the configuration file, with paths adapted."""
    text = configuration(objects)
    spec = workload(objects)["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for mount in spec["containers"][0]["volumeMounts"]:
        there = directory / mount["mountPath"].lstrip("/")
        there.mkdir(parents=True)
        volume = volumes.get(mount["name"], {})  # a shard's own is in no list
        for item in (volume.get("secret") or volume.get("configMap") or {}).get("items", []):
            if item["path"].endswith(".pem"):
                trustme.CA().cert_pem.write_to_path(str(there / item["path"]))
            else:
                (there / item["path"]).write_text(TOKEN)
        if mount["name"] == "web-config":
            write_web_file(there / "web-config.yml", tls=Certificates(there).files, users=USERS)
        text = text.replace(mount["mountPath"], str(there))
    (argument,) = (part for part in spec["containers"][0]["args"] if part.startswith("--config.file="))
    file: Path = directory / argument.removeprefix("--config.file=").lstrip("/")
    file.write_text(text)
    return file


@every_case
def test_the_exporter_accepts_its_configuration(case: Path, tmp_path: Path) -> None:
    """With the mounted files and the set variables only."""
    objects = rendered(case)
    (container,) = workload(objects)["spec"]["template"]["spec"]["containers"]
    environ = {variable["name"]: variable.get("value", TOKEN) for variable in container.get("env", [])}
    settings = config.load(put_into(tmp_path, objects), environ, {})
    given = yaml.safe_load(case.read_text()).get("config", {}).get("accounts", [{"name": "default"}])
    assert [account.name for account in settings.accounts] == [account["name"] for account in given]
    assert {account.authorization.credentials.token() for account in settings.accounts} == {TOKEN}
    assert settings.warnings == ()


def test_the_exporters_example_is_valid_in_the_values(tmp_path: Path) -> None:
    """And gives the same configuration."""
    (tmp_path / "token").write_text(TOKEN)
    text = full_example().replace("/run/secrets/datarobot-token", str(tmp_path / "token"))
    example = yaml.safe_load(text)
    objects = template(
        values=json.dumps({"image": MINIMAL["image"], "config": example}),
    )
    (tmp_path / "theirs.yaml").write_text(text)
    (tmp_path / "ours.yaml").write_text(configuration(objects))
    ours, theirs = (config.load(tmp_path / f"{name}.yaml", {}, {}) for name in ("ours", "theirs"))
    assert ours == theirs.model_copy(update={"source": ours.source, "file": ours.file})


def test_large_numbers_stay_integers() -> None:
    """Helm reads numbers as floating point and could write 1e+06."""
    objects = rendered_of({"config": {"poll": {"page_size": 123_456_789}}})
    assert "page_size: 123456789\n" in configuration(objects) + "\n"


@pytest.mark.parametrize(
    ("more", "directory", "volume"),
    [
        ({"persistence": {"enabled": True}}, "/var/lib/datarobot-exporter", "watch-datarobot-exporter"),
        ({"persistence": {"enabled": True, "existingClaim": "mine"}}, "/var/lib/datarobot-exporter", "mine"),
        (
            {"persistence": {"enabled": True}, "config": {"state": {"directory": "/state"}}},
            "/state",
            "watch-datarobot-exporter",
        ),
        ({"config": {"state": {"directory": "/state"}}}, "/state", None),
    ],
)
def test_a_volume_is_mounted_at_the_state_directory(more: Values, directory: str, volume: str | None) -> None:
    objects = rendered_of(more)
    assert yaml.safe_load(configuration(objects))["state"] == {"directory": directory}
    spec = workload(objects)["spec"]["template"]["spec"]
    (mount,) = (mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "state")
    assert mount["mountPath"] == directory
    (found,) = (found for found in spec["volumes"] if found["name"] == "state")
    claim = {"persistentVolumeClaim": {"claimName": volume}}
    assert found == {"name": "state", **({"emptyDir": {}} if volume is None else claim)}
    claims = [found["metadata"]["name"] for found in of_kind(objects, "PersistentVolumeClaim")]
    assert claims == ([volume] if volume == "watch-datarobot-exporter" else [])


def test_helm_keeps_the_claim() -> None:
    """As Kubernetes keeps those of shards; the user's annotations stay beside it."""
    claim = only(rendered(CHART / "ci" / "persistence-values.yaml"), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "keep",
        "example.com/backup": "false",
    }


def test_a_changed_configuration_or_token_replaces_the_pod() -> None:
    before = annotations({})
    other_config = annotations({"config": {"poll": {"interval": "1m"}}})
    other_token = annotations({"credentials": {"tokens": {"production": "another"}}})
    other_limits = annotations({"resources": {"limits": {"memory": "1Gi"}}})
    assert before.keys() == {"checksum/config", "checksum/secret"}
    assert other_config["checksum/config"] != before["checksum/config"]
    assert other_config["checksum/secret"] == before["checksum/secret"]
    assert other_token["checksum/config"] == before["checksum/config"]
    assert other_token["checksum/secret"] != before["checksum/secret"]
    assert other_limits == before


# Shards


def test_shards_are_the_pods_of_a_stateful_set() -> None:
    """All started at once; each reads its number from its name and has a DNS name."""
    objects = rendered(SHARDING)
    assert of_kind(objects, "Deployment") == of_kind(objects, "PersistentVolumeClaim") == []
    made = only(objects, "StatefulSet")
    assert (made["spec"]["replicas"], made["spec"]["podManagementPolicy"]) == (3, "Parallel")
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["--config.file=/etc/datarobot-exporter/config.yaml", "--shard.total=3"]
    assert container["env"] == [
        {
            "name": "DATAROBOT_EXPORTER_SHARD_INDEX",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
        }
    ]
    (names,) = (found for found in of_kind(objects, "Service") if found != service_of(objects))
    assert names["metadata"]["name"] == made["spec"]["serviceName"]
    assert (names["spec"]["clusterIP"], names["spec"]["publishNotReadyAddresses"]) == ("None", True)
    (tester,) = only(objects, "Pod")["spec"]["containers"]
    name, domain = made["metadata"]["name"], names["metadata"]["name"]
    assert [word for word in tester["args"] if word.startswith("--url=")] == [
        f"--url=http://{name}-{index}.{domain}:10072" for index in range(3)
    ]


def test_a_shards_pod_is_otherwise_the_deployments() -> None:
    one = only(rendered_of({}), "Deployment")["spec"]["template"]
    shard = only(rendered_of({"sharding": {"enabled": True}}), "StatefulSet")["spec"]["template"]
    (container,) = shard["spec"]["containers"]
    assert container.pop("env")
    assert container["args"].pop() == "--shard.total=2"
    assert shard == one


@pytest.mark.parametrize(("replicas", "when_scaled"), [(1, "Delete"), (0, "Retain")])
def test_each_shard_has_a_volume_which_goes_with_it(replicas: int, when_scaled: str) -> None:
    """But not in a pause, and not with the release."""
    values = {"sharding": {"enabled": True, "shards": 4}, "persistence": {"enabled": True, "size": "2Gi"}}
    spec = only(rendered_of({**values, "replicaCount": replicas}), "StatefulSet")["spec"]
    assert spec["replicas"] == 4 * replicas
    assert spec["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": when_scaled,
    }
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "state"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "2Gi"}},
    }
    pod = spec["template"]["spec"]
    (mount,) = (mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "state")
    assert mount["mountPath"] == "/var/lib/datarobot-exporter"
    assert "state" not in {volume["name"] for volume in pod["volumes"]}


class InstalledRelease(BaseHTTPRequestHandler):
    """The Kubernetes API as far as Helm asks it: a StatefulSet is installed."""

    stateful_set: ClassVar[Object]

    def do_GET(self) -> None:
        kind = {"name": "statefulsets", "kind": "StatefulSet", "namespaced": True, "verbs": ["get"]}
        name = self.stateful_set["metadata"]["name"]
        known = {
            "/apis/apps/v1": {"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [kind]},
            f"/apis/apps/v1/namespaces/there/statefulsets/{name}": self.stateful_set,
        }
        found = known.get(self.path.partition("?")[0])
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(found or {"kind": "Status", "code": 404}).encode())

    def log_message(self, *_: object) -> None:
        """Keep standard error clean."""


@pytest.fixture
def upgrade(tmp_path: Path) -> Iterator[Callable[[Values], subprocess.CompletedProcess[str]]]:
    """Renders shards against an API server that has the release with persistence."""
    installed = {"sharding": {"enabled": True}, "persistence": {"enabled": True}}
    InstalledRelease.stateful_set = only(rendered_of(installed), "StatefulSet")
    with ThreadingHTTPServer(("127.0.0.1", 0), InstalledRelease) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        (tmp_path / "kubeconfig").write_text("")
        flags = ["--dry-run=server", f"--kube-apiserver={address}", f"--kubeconfig={tmp_path / 'kubeconfig'}"]

        def run(more: Values) -> subprocess.CompletedProcess[str]:
            values = merged(merged(MINIMAL, installed), more)
            return helm("template", "watch", CHART, "--namespace=there", VERSION, *flags, values=values)

        yield run
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "persistence",
    [{"size": "2Gi"}, {"storageClassName": "fast"}, {"annotations": {"a": "b"}}, {"enabled": False}],
)
def test_changed_claims_of_shards_are_refused_with_the_way_out(
    upgrade: Callable[[Values], subprocess.CompletedProcess[str]], persistence: Values
) -> None:
    """Kubernetes would refuse them in the middle of the upgrade, without saying what to do."""
    assert (done := upgrade({"sharding": {"shards": 5}})).returncode == 0, done.stderr
    done = upgrade({"persistence": persistence})
    assert done.returncode == 1
    assert "persistence has changed, but Kubernetes does not allow" in done.stderr
    assert "`kubectl -n there delete statefulset watch-datarobot-exporter --cascade=orphan`" in done.stderr


def test_without_persistence_a_shards_state_lives_as_long_as_its_pod() -> None:
    values = {"sharding": {"enabled": True}, "config": {"state": {"directory": "/state"}}}
    spec = only(rendered_of(values), "StatefulSet")["spec"]
    assert "volumeClaimTemplates" not in spec
    assert {"name": "state", "emptyDir": {}} in spec["template"]["spec"]["volumes"]


def test_names_of_shards_are_short_enough_for_their_labels() -> None:
    """Labels hold the pod's name, and the set's with a dash and ten characters."""
    objects = rendered_of({"sharding": {"enabled": True}}, release="r" * 53)
    name = only(objects, "StatefulSet")["metadata"]["name"]
    assert len(f"{name}-0123456789") <= 63
    assert len(f"{name}-999") <= 63


def test_every_account_is_polled_by_one_shard(tmp_path: Path) -> None:
    """Real exporters with the files, flags and variables of their pods."""
    objects = rendered(SHARDING)
    made = only(objects, "StatefulSet")
    (container,) = made["spec"]["template"]["spec"]["containers"]
    (by_name,) = container["env"]
    accounts = [account["name"] for account in yaml.safe_load(configuration(objects))["accounts"]]
    tokens = {name: f"fake-token-of-{name}" for name in accounts}
    living = {tokens[name]: SimulatedAccount(name, start=time.time(), profile=EMPTY) for name in accounts}
    found: list[list[str]] = []
    with Simulator(living, clock=time.time) as simulator, ExitStack() as running:
        for index in range(made["spec"]["replicas"]):
            place = tmp_path / str(index)
            file = put_into(place, objects)
            file.write_text(re.sub("endpoint: .*", f"endpoint: {simulator.url}", file.read_text()))
            for name, token in tokens.items():
                (place / "run/secrets/datarobot-exporter" / name).write_text(token)
            flags = [f"--config.file={file}", "--web.listen-address=127.0.0.1:0", *container["args"][1:]]
            environ = {by_name["name"]: f"{made['metadata']['name']}-{index}"}
            exporter = running.enter_context(RunningExporter(flags, cwd=tmp_path, environ=environ))
            eventually(lambda exporter=exporter: exporter.get("/-/ready").ok)  # type: ignore[misc]
            text = exporter.get("/metrics").text
            up = re.findall(r'^datarobot_up\{account="(.*)"\} 1.0$', text, re.MULTILINE)
            assert {path.stem for path in (place / "var/lib/datarobot-exporter").glob("*.db")} == set(up)
            found.append(up)
    assert sorted(name for up in found for name in up) == sorted(accounts)
    assert len(found) == 3


# The web configuration file


@pytest.fixture
def served_over_tls(tmp_path: Path) -> Iterator[tuple[RunningExporter, Path]]:
    """An exporter with the rendered files, and the directory of its Secret."""
    file = put_into(tmp_path, rendered(WEB_CONFIG))
    flags = [f"--config.file={file}", "--web.listen-address=127.0.0.1:0"]
    with RunningExporter(flags, cwd=tmp_path) as exporter:
        assert exporter.port
        yield exporter, tmp_path / "run/secrets/web-config"


def test_the_rendered_web_configuration_is_in_force(
    served_over_tls: tuple[RunningExporter, Path],
) -> None:
    """Probes need no password; a scrape needs one, and the CA of the Secret."""
    exporter, secret = served_over_tls
    url = f"https://127.0.0.1:{exporter.port}"
    (container,) = workload(rendered(WEB_CONFIG))["spec"]["template"]["spec"]["containers"]
    probe = container["livenessProbe"]["httpGet"]
    get = partial(requests.get, timeout=30, verify=str(secret / "ca.pem"))
    assert probe["scheme"] == "HTTPS"
    assert get(url + probe["path"]).status_code == 200
    assert get(f"{url}/metrics").status_code == 401
    assert get(f"{url}/metrics", auth=("prometheus", PASSWORD)).status_code == 200
    # A changed Secret needs no new pod.
    write_web_file(secret / "web-config.yml", tls={"cert_file": "cert.pem", "key_file": "key.pem"})
    assert get(f"{url}/metrics").status_code == 200


def test_helm_test_needs_no_password(served_over_tls: tuple[RunningExporter, Path]) -> None:
    exporter, _ = served_over_tls
    url = f"https://127.0.0.1:{exporter.port}"
    assert helm_test(url).stdout.startswith(f"{url}: Ready: ")
    assert helm_test(url.replace("https", "http"), wait="0s").returncode == 1


def test_the_web_configuration_is_mounted_as_a_directory() -> None:
    """Without items: its certificates are there too, and follow a change of the Secret."""
    spec = workload(rendered(WEB_CONFIG))["spec"]["template"]["spec"]
    (volume,) = (volume for volume in spec["volumes"] if volume["name"] == "web-config")
    assert volume["secret"] == {"secretName": "datarobot-exporter-web", "defaultMode": 0o440}
    (mount,) = (one for one in spec["containers"][0]["volumeMounts"] if one["name"] == "web-config")
    assert "subPath" not in mount
    web = yaml.safe_load(configuration(rendered(WEB_CONFIG)))["web"]
    assert web == {"config_file": f"{mount['mountPath']}/web-config.yml"}


def test_basic_auth_without_tls_keeps_http() -> None:
    objects = rendered_of({"webConfig": {"existingSecret": "mine"}, "serviceMonitor": {"enabled": True}})
    (container,) = workload(objects)["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "http"}
    (endpoint,) = only(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert "scheme" not in endpoint


def test_probes_can_be_replaced() -> None:
    """For a web configuration file that asks for a client's certificate, which the kubelet has not."""
    probe = {"httpGet": None, "tcpSocket": {"port": "http"}}
    own_scheme = {"httpGet": {"scheme": "HTTP"}}
    web = {"existingSecret": "mine", "tls": True}
    objects = rendered_of({"webConfig": web, "livenessProbe": probe, "readinessProbe": own_scheme})
    (container,) = workload(objects)["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"].keys() >= {"tcpSocket"}
    assert "httpGet" not in container["livenessProbe"]
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTP"


def test_probes_need_no_client_certificate(tmp_path: Path) -> None:
    """The liveness probe runs in the pod, with its configuration; a pod of `helm test` could not connect."""
    objects = template("-f", WEB_CONFIG, "--set=webConfig.clientCertificates=true")
    assert of_kind(objects, "Pod") == []
    (container,) = workload(objects)["spec"]["template"]["spec"]["containers"]
    readiness, liveness = container["readinessProbe"], container["livenessProbe"]
    assert (readiness.keys() & {"httpGet", "tcpSocket"}, readiness["tcpSocket"]) == (
        {"tcpSocket"},
        {"port": "http"},
    )
    assert liveness.keys() & {"httpGet", "exec"} == {"exec"}
    program, file, command = liveness["exec"]["command"]
    assert (program, command) == ("datarobot-exporter", "health")
    assert file in container["args"]
    place = put_into(tmp_path, objects)
    required = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
    web = tmp_path / "run/secrets/web-config/web-config.yml"
    write_web_file(web, tls={"cert_file": "cert.pem", "key_file": "key.pem", **required})
    environ = {"DATAROBOT_EXPORTER_WEB_LISTEN_ADDRESS": f"127.0.0.1:{free_port()}"}
    with RunningExporter([f"--config.file={place}"], cwd=tmp_path, environ=environ) as exporter:
        assert exporter.port
        with RunningExporter([f"--config.file={place}", command], cwd=tmp_path, environ=environ) as health:
            assert health.wait() == 0
    assert ": Healthy: " in health.printed[0]


def test_the_service_monitor_gets_tls_and_authentication() -> None:
    values = yaml.safe_load(WEB_CONFIG.read_text())["serviceMonitor"]
    (endpoint,) = only(rendered(WEB_CONFIG), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"] == values["tlsConfig"]
    assert endpoint["basicAuth"] == values["basicAuth"]
    bearer = {"credentials": {"name": "scraper", "key": "token"}}
    objects = rendered_of({"serviceMonitor": {"enabled": True, "authorization": bearer}})
    (endpoint,) = only(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["authorization"] == bearer
    assert "tlsConfig" not in endpoint


# Values


def keys_of(schema: Object, path: str = "") -> Iterator[str]:
    """Every key that a schema allows, with dots."""
    schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for key, inner in schema.get("properties", {}).items():
        if inner is not False:
            yield f"{path}{key}"
            yield from keys_of(inner, f"{path}{key}.")
    if isinstance(schema.get("items"), dict):
        yield from keys_of(schema["items"], path)


def keys_in(values: object, path: str = "") -> Iterator[str]:
    """Every key of some values, with dots; keys of list entries as keys of the list."""
    if isinstance(values, dict):
        for key, inner in values.items():
            yield f"{path}{key}"
            yield from keys_in(inner, f"{path}{key}.")
    for inner in values if isinstance(values, list) else ():
        yield from keys_in(inner, path)


def test_the_schema_knows_the_keys_of_the_exporters_configuration() -> None:
    example = yaml.safe_load(full_example())
    for section in ("poll", "tasks"):
        example["accounts"][0][section] = example[section]
        example["tasks"]["stuck_after_by_type"] = {}
    assert set(keys_of(SCHEMA["definitions"]["config"])) == set(keys_in(example))


def test_the_schema_knows_the_keys_of_the_values() -> None:
    """Except `global` and `enabled` of umbrella charts, and mappings with free keys."""
    free = (
        *("podSecurityContext.", "securityContext.", "livenessProbe.", "readinessProbe.", "strategy."),
        *("resources.", "dashboards.labels.", "test.resources.", "prometheusRule.alerts."),
    )
    empty = ("config.", "hostAliases.", "imagePullSecrets.")
    written = keys_in(yaml.safe_load((CHART / "values.yaml").read_text()))
    known = {key for key in keys_of(SCHEMA) if not key.startswith((*free, *empty))}
    assert {key for key in written if not key.startswith(free)} == known - {"global", "enabled"}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"webConfig": {"existingSecret": "mine"}, "config": {"web": {"config_file": "/web.yml"}}},
            "webConfig.existingSecret and config.web.config_file are both set; expected one of them",
        ),
        ({"webConfig": {"tls": True}}, "webConfig.tls is set without a web configuration file"),
        (
            {"serviceMonitor": {"basicAuth": {"a": "b"}, "authorization": {"a": "b"}}},
            "serviceMonitor.basicAuth and serviceMonitor.authorization are both set; expected one of them",
        ),
        (
            {"webConfig": {"existingSecret": "mine", "clientCertificates": True}},
            "webConfig.clientCertificates is set without webConfig.tls; expected both, or neither",
        ),
        ({"sharding": {"shards": 0}}, "at '/sharding/shards': minimum: got 0, want 1"),
        (
            {"sharding": {"enabled": True}, "persistence": {"enabled": True, "existingClaim": "mine"}},
            "persistence.existingClaim is one volume, and sharding.enabled needs one for each shard",
        ),
        ({"replicaCount": 2}, "at '/replicaCount': maximum: got 2, want 1"),
        ({"replicas": 1}, "additional properties 'replicas' not allowed"),
        ({"serviceMonitor": {"on": True}}, "at '/serviceMonitor': additional properties 'on' not allowed"),
        ({"serviceMonitor": {"job": "tasks"}}, "at '/serviceMonitor/job': 'tasks' does not match pattern"),
        ({"service": {"port": "http"}}, "at '/service/port': got string, want integer"),
        ({"config": {"pol": {}}}, "at '/config': additional properties 'pol' not allowed"),
        ({"config": {"poll": {"interval": 30}}}, "at '/config/poll/interval': got number, want null or str"),
        ({"config": {"accounts": [{"name": "one"}]}}, "at '/config/accounts/0': missing property 'endpoint'"),
        (
            {"podLabels": {"app.kubernetes.io/name": "mine"}},
            "at '/podLabels/app.kubernetes.io~1name': false schema",
        ),
        ({"credentials": {"tokens": {"a b": TOKEN}}}, "additional properties 'a b' not allowed"),
        ({"image": {"repository": ""}}, "image.repository is empty; expected the image that you built"),
        (
            {"credentials": {"existingSecret": "mine"}},
            "credentials.existingSecret and credentials.tokens are both set; expected one of them",
        ),
        (
            {"credentials": {"tokens": {"produktion": TOKEN}}},
            "credentials.tokens.produktion matches no account that needs a token",
        ),
        (
            {"credentials": {"keys": {"production": "token"}}},
            "credentials.keys is set without credentials.existingSecret",
        ),
        (
            {"config": {"accounts": []}, "credentials": {"existingSecret": "mine", "tokens": None}},
            "credentials.existingSecret is set, but no account needs it",
        ),
        (
            {"prometheusRule": {"enabled": True, "disabledAlerts": ["DataRobotTaskStock"]}},
            "prometheusRule: DataRobotTaskStock is not an alert of this chart",
        ),
    ],
)
def test_invalid_values_are_refused(more: Values, sentence: str) -> None:
    assert sentence in refused(merged(MINIMAL, more))


def test_all_errors_are_reported_at_once() -> None:
    accounts = [
        {"name": "one", "endpoint": "https://one.example.com"},
        {"name": "two", "endpoint": "https://two.example.com", "authorization": {"credentials": TOKEN}},
    ]
    said = refused({"config": {"accounts": accounts}})
    assert re.findall("^- (.*?) (.*);", said, re.MULTILINE) == [
        ("image.repository", "is empty"),
        ("config.accounts[1].authorization.credentials", "would put a token into a ConfigMap"),
        ("the", "account one has no token"),
    ]
    assert TOKEN not in said


def test_without_an_account_the_error_says_how_to_set_one() -> None:
    said = refused({"image": MINIMAL["image"]})
    assert (
        "there is no account; expected some in config.accounts, or the variable DATAROBOT_API_TOKEN" in said
    )


# Copies of files of the repository


def project() -> Object:
    found: Object = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def test_the_chart_has_the_projects_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == project()["version"]
    (container,) = only(rendered_of({}), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"datarobot-exporter:{project()['version']}"


@pytest.mark.parametrize(
    ("copies", "originals"),
    [
        ("files/rules/*.yaml", "deploy/prometheus/rules/*.yaml"),
        ("files/dashboards/*.json", "deploy/grafana/dashboards/*.json"),
    ],
)
def test_the_charts_copies_are_the_originals(copies: str, originals: str) -> None:
    """Helm cannot read files outside of the chart; `make chart-files` copies them."""
    found = {path.name: path.read_bytes() for path in CHART.glob(copies)}
    assert found == {path.name: path.read_bytes() for path in ROOT.glob(originals)}
    assert found


def test_the_service_monitor_has_the_fields_of_the_operator() -> None:
    monitor = only(rendered(EVERYTHING), "ServiceMonitor")
    assert monitor["apiVersion"] == OPERATOR
    assert monitor["metadata"]["namespace"] == "monitoring"
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert monitor["spec"].keys() == {"selector", "namespaceSelector", "endpoints"}
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["there"]}
    assert monitor["spec"]["endpoints"] == [
        {
            "port": "http",
            "path": "/datarobot/metrics",
            "interval": "15s",
            "scrapeTimeout": "10s",
            "relabelings": [
                {"action": "labeldrop", "regex": "endpoint"},
                {"action": "replace", "targetLabel": "job", "replacement": "datarobot-eu"},
                {"action": "replace", "targetLabel": "cluster", "replacement": "one"},
            ],
            "metricRelabelings": [{"action": "drop", "sourceLabels": ["__name__"], "regex": "python_.*"}],
        }
    ]


def test_each_dashboard_is_a_config_map_for_grafanas_sidecar() -> None:
    """Unchanged, and below the limit of 1 MiB."""
    found = {
        name: json.loads(text)
        for config_map in of_kind(rendered(MONITORING), "ConfigMap")
        if config_map["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in config_map["data"].items()
        if len(text) < 2**20
    }
    originals = (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")
    assert found == {path.name: json.loads(path.read_text()) for path in originals}


# `helm test` and the notes


def helm_test(url: str, *, wait: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the pod's command for another URL."""
    (container,) = only(rendered(EVERYTHING), "Pod")["spec"]["containers"]
    *arguments, asked = container["args"]
    assert asked.startswith("--url=")
    assert "--wait=90s" in arguments
    given = [word if wait is None or "--wait" not in word else f"--wait={wait}" for word in arguments]
    return subprocess.run(
        [sys.executable, "-m", "exporter", *given, f"--url={url}"],
        check=False,
        capture_output=True,
        text=True,
    )


def test_helm_test_waits_until_every_account_is_polled(tmp_path: Path) -> None:
    """Whether that succeeds does not matter: DataRobot is not there."""
    nobody = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "config.yaml").write_text("poll: {retries: 0}")
    with RunningExporter(
        ["--web.listen-address=127.0.0.1:0"],
        cwd=tmp_path,
        environ={"DATAROBOT_ENDPOINT": nobody, "DATAROBOT_API_TOKEN": TOKEN},
    ) as exporter:
        url = f"http://127.0.0.1:{exporter.port}"
        found = helm_test(url)
    absent = helm_test(nobody, wait="0s")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith(f"{url}: Ready: ")
    assert (absent.returncode, absent.stderr) == (1, f"{nobody}: cannot connect: Connection refused\n")


@every_case
def test_the_notes_name_the_next_commands(case: Path, tmp_path: Path) -> None:
    """Helm shows notes after an installation only; here they are rendered in an object."""
    shutil.copytree(CHART, tmp_path / "chart")
    notes = tmp_path / "chart" / "templates" / "NOTES.txt"
    notes.with_suffix(".tpl").write_text(f'{{{{ define "notes" }}}}{notes.read_text()}{{{{ end }}}}')
    notes.with_suffix(".yaml").write_text('kind: Notes\ntext: {{ include "notes" . | toJson }}')
    done = helm("template", "watch", tmp_path / "chart", "--namespace=there", VERSION, "-f", case)
    assert done.returncode == 0, done.stderr
    said = only([found for found in yaml.safe_load_all(done.stdout) if found], "Notes")["text"]
    service = service_of(rendered(case))["metadata"]["name"]
    assert f"kubectl -n there port-forward service/{service} 10072:" in said
    assert "helm -n there test watch" in said
    assert "<no value>" not in said
    assert "{{" not in said


def readme_values() -> list[Values]:
    blocks = re.findall("```yaml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    # Other files are named in their first line.
    return [yaml.safe_load(block) for block in blocks if not block.startswith("# web-config.yml")]


def test_the_readmes_web_configuration_file_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall("```yaml\n(# web-config.yml\n.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    Certificates(tmp_path)
    (tmp_path / "cert.pem").rename(tmp_path / "tls.crt")
    (tmp_path / "key.pem").rename(tmp_path / "tls.key")
    (tmp_path / "web-config.yml").write_text(block.replace("$2y$10$…", f"'{USERS['prometheus']}'"))
    found = read_web_file(tmp_path / "web-config.yml")
    assert found.tls is not None
    assert found.users == USERS


@pytest.mark.parametrize("block", readme_values(), ids=lambda block: next(iter(block)))
def test_the_readmes_values_are_accepted(block: Values) -> None:
    """Each merged with the first block, which has the required values."""
    template(values=json.dumps(merged(readme_values()[0], block)))


def test_the_readme_quotes_the_errors() -> None:
    accounts = merged(readme_values()[0], {"image": {"repository": ""}})
    said = refused(merged(accounts, {"credentials": {"existingSecret": "", "tokens": {"production": TOKEN}}}))
    quoted = re.findall("```\n(- .*?)\n```", (CHART / "README.md").read_text(), re.DOTALL)
    assert [block for block in quoted if block in said] == quoted
    assert quoted

"""The Helm chart: objects are valid, safe and consistent, and the exporter accepts its configuration."""

import base64
import json
import re
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import chart
import kubernetes_validate
import pytest
import trustme
import yaml
from chart import CASES, CHART, MINIMAL, TOKEN, Rendered, Values, every_case, merged, render, template
from click import Option
from example import full_example
from serving import Certificates, write_web_file

from exporter import cli, config
from exporter.config.sharding import parse_shard


PROJECT: Final = tomllib.loads((chart.ROOT / "pyproject.toml").read_text())["project"]


# Objects


def test_lint_passes() -> None:
    done = chart.helm("lint", "--strict", CHART, values=CASES["everything"])
    assert done.returncode == 0, done.stdout
    found = re.findall(r"\[(?:INFO|WARNING|ERROR)\].*", done.stdout + done.stderr)
    assert found == ["[INFO] Chart.yaml: icon is recommended"]


@every_case
def test_kubernetes_accepts_every_object(case: str) -> None:
    """Without warnings of the oldest and the newest version that is supported, by its schemas."""
    for found in render(case=case).objects:
        assert ": null" not in json.dumps({**found, "data": {}})
        for version in chart.KUBERNETES if found["apiVersion"] != chart.OPERATOR else ():
            kubernetes_validate.validate(found, version, strict=True)


def test_the_cases_render_every_template() -> None:
    sources = frozenset[str]().union(*(render(case=case).sources for case in CASES))
    assert sources == {str(path.relative_to(CHART)) for path in (CHART / "templates").rglob("*.yaml")}


def test_optional_parts_are_off_by_default() -> None:
    assert sorted(found["kind"] for found in render().objects) == [
        *("ConfigMap", "Deployment", "Pod", "Secret", "Service", "ServiceAccount")
    ]


@every_case
def test_objects_have_names_of_their_own_and_the_recommended_labels(case: str) -> None:
    objects = render(case=case).objects
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)
    for found in objects:
        if found["metadata"]["name"].endswith("note"):
            continue
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == labels["app.kubernetes.io/part-of"] == "datarobot-exporter"
        assert labels["app.kubernetes.io/instance"] == "watch"
        assert labels["app.kubernetes.io/version"] == PROJECT["version"]
        assert all(re.fullmatch("[A-Za-z0-9._-]{1,63}", label) for label in labels.values())


def test_names_are_short_enough_whatever_the_releases_name_is() -> None:
    """For Services; and for the labels of shards, to which Kubernetes adds a dash and ten characters."""
    assert render(release="datarobot-exporter-eu").workload["metadata"]["name"] == "datarobot-exporter-eu"
    objects = render(release="r" * 53).objects
    assert max(len(each["metadata"]["name"]) for each in objects) <= 63
    shards = render("--set=sharding.enabled=true", release="r" * 53)
    assert len(shards.workload["metadata"]["name"]) <= 52


@every_case
def test_selectors_match_the_exporter_only(case: str) -> None:
    """The pod of `helm test` has most of the labels, and must not be scraped or counted as a replica."""
    rendered = render(case=case)
    exporter, test = (pod["metadata"]["labels"].items() for pod in (rendered.pod, rendered.only("Pod")))
    for selector in (
        rendered.workload["spec"]["selector"]["matchLabels"],
        *(found["spec"]["selector"] for found in rendered.of_kind("Service")),
        *(found["spec"]["podSelector"]["matchLabels"] for found in rendered.of_kind("NetworkPolicy")),
        *(found["spec"]["selector"]["matchLabels"] for found in rendered.of_kind("PodDisruptionBudget")),
        # Without one, a constraint selects no pod, and the server warns.
        *(
            each["labelSelector"]["matchLabels"]
            for each in rendered.pod["spec"].get("topologySpreadConstraints", [])
        ),
    ):
        assert selector.items() <= exporter
        assert not selector.items() <= test
    for monitor in rendered.of_kind("ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        services = rendered.of_kind("Service")
        selected = [found for found in services if selector <= found["metadata"]["labels"].items()]
        assert selected == [rendered.service]


@every_case
def test_ports_are_the_one_that_the_exporter_listens_on(case: str) -> None:
    rendered = render(case=case)
    (port,), web = rendered.container["ports"], rendered.config.get("web", {})
    assert port["containerPort"] == int(web.get("listen_address", ":10072").rpartition(":")[2])
    scheme = "https" if "config_file" in web else "http"
    probed = {"port": port["name"], **({"scheme": "HTTPS"} if scheme == "https" else {})}
    assert rendered.container["livenessProbe"]["httpGet"] == {"path": "/-/healthy", **probed}
    assert rendered.container["readinessProbe"]["httpGet"] == {"path": "/-/ready", **probed}
    (served,) = rendered.service["spec"]["ports"]
    assert served["targetPort"] == port["name"]
    if rendered.of_kind("Deployment"):
        url = f"{scheme}://{rendered.service['metadata']['name']}:{served['port']}"
        assert rendered.at(TESTER)["args"][-1] == f"--url={url}"
    for monitor in rendered.of_kind("ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] == served["name"]
        assert endpoint["path"] == web.get("telemetry_path", "/metrics")
        assert endpoint.get("scheme", "http") == scheme
    for policy in rendered.of_kind("NetworkPolicy"):
        (rule,) = policy["spec"]["ingress"]
        assert rule["ports"] == [{"port": port["name"], "protocol": "TCP"}]


# Safety


@every_case
def test_pods_are_restricted(case: str) -> None:
    """The Pod Security Standard "restricted", a read-only root file system, no access to Kubernetes' API."""
    rendered = render(case=case)
    account = rendered.only("ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    for pod in (rendered.pod, rendered.only("Pod")):
        spec = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["runAsGroup"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        # Variables of a Service named datarobot-exporter would look like the exporter's.
        assert spec["enableServiceLinks"] is False
        assert spec["serviceAccountName"] == account["metadata"]["name"]
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume} - {"name"}
        assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", []))
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"memory"}


TESTER: Final = "Pod.spec.containers.test"
POD: Final = "Deployment.spec.template.spec"
SHARD: Final = "StatefulSet.spec"
MAIN: Final = f"{POD}.containers.exporter"
STATE: Final = f"{POD}.volumes.state"
LIVENESS: Final = f"{MAIN}.livenessProbe"
MONITOR: Final = "ServiceMonitor.spec.endpoints.0"
CLAIM: Final = "persistence.enabled=true"
DIRECTORY: Final = "config.state.directory=/state"
SHARDS: Final = "sharding.enabled=true"
WEB: Final = "webConfig.existingSecret=web"
TLS: Final = f"{WEB},webConfig.tls=true"
OWN: Final = "watch-datarobot-exporter"
OTHER: Final = "serviceAccount.create=false,serviceAccount.name=mine"
SELECTOR: Final = "topologySpreadConstraints[0].labelSelector.matchLabels.a=b"
PORT: Final = {"port": "http", "protocol": "TCP"}


@pytest.mark.parametrize(
    ("values", "path", "expected"),
    [
        # Two exporters never run at the same time.
        ("", "Deployment.spec.replicas", 1),
        ("", "Deployment.spec.strategy", {"type": "Recreate"}),
        ("", "Deployment.metadata.name", OWN),
        ("nameOverride=tasks", "Deployment.metadata.name", "watch-tasks"),
        ("fullnameOverride=tasks", "Service.metadata.name", "tasks"),
        (OTHER, f"{POD}.serviceAccountName", "mine"),
        (OTHER, "Pod.spec.serviceAccountName", "mine"),
        (SELECTOR, f"{POD}.topologySpreadConstraints.0", {"labelSelector": {"matchLabels": {"a": "b"}}}),
        (CLAIM, f"{STATE}.persistentVolumeClaim.claimName", OWN),
        (CLAIM, "PersistentVolumeClaim.metadata.name", OWN),
        (CLAIM, f"{MAIN}.volumeMounts.state.mountPath", "/var/lib/datarobot-exporter"),
        (f"{CLAIM},persistence.existingClaim=a", f"{STATE}.persistentVolumeClaim.claimName", "a"),
        (f"{CLAIM},{DIRECTORY}", f"{MAIN}.volumeMounts.state.mountPath", "/state"),
        (DIRECTORY, f"{STATE}.emptyDir", {}),
        (DIRECTORY, f"{MAIN}.volumeMounts.state.mountPath", "/state"),
        (f"{SHARDS},{DIRECTORY}", f"{SHARD}.template.spec.volumes.state.emptyDir", {}),
        # The volume of a shard goes with it, but not in a pause, and not with the release.
        (f"{SHARDS},{CLAIM}", f"{SHARD}.replicas", 2),
        (f"{SHARDS},{CLAIM}", f"{SHARD}.persistentVolumeClaimRetentionPolicy.whenDeleted", "Retain"),
        (f"{SHARDS},{CLAIM}", f"{SHARD}.persistentVolumeClaimRetentionPolicy.whenScaled", "Delete"),
        (f"{SHARDS},{CLAIM},replicaCount=0", f"{SHARD}.replicas", 0),
        (
            f"{SHARDS},{CLAIM},replicaCount=0",
            f"{SHARD}.persistentVolumeClaimRetentionPolicy",
            dict.fromkeys(("whenDeleted", "whenScaled"), "Retain"),
        ),
        # A directory without items: certificates are there too, and follow a change of the Secret.
        (WEB, f"{POD}.volumes.web-config.secret", {"secretName": "web", "defaultMode": 0o440}),
        (WEB, f"{LIVENESS}.httpGet", {"path": "/-/healthy", "port": "http"}),
        (TLS, f"{LIVENESS}.httpGet.scheme", "HTTPS"),
        (f"{TLS},livenessProbe.httpGet.scheme=HTTP", f"{LIVENESS}.httpGet.scheme", "HTTP"),
        (
            f"{TLS},livenessProbe.httpGet=null,livenessProbe.exec.command[0]=a",
            f"{LIVENESS}.exec.command.0",
            "a",
        ),
        # The kubelet has no client certificate; `test_health_commands.py` runs the other probe.
        (f"{TLS},webConfig.clientCertificates=true", f"{MAIN}.readinessProbe.tcpSocket", {"port": "http"}),
        ("serviceMonitor.enabled=true,serviceMonitor.authorization.a=b", f"{MONITOR}.authorization.a", "b"),
        # To all peers by default.
        ("networkPolicy.enabled=true", "NetworkPolicy.spec.ingress", [{"ports": [PORT]}]),
        ("networkPolicy.enabled=true", "NetworkPolicy.spec.egress.1", {"ports": [{**PORT, "port": 443}]}),
    ],
)
def test_values_reach_the_objects(values: str, path: str, expected: object) -> None:
    rendered = render(f"--set={values}")
    assert rendered.at(path) == expected
    claimed = f'"claimName": "{OWN}"' in json.dumps(rendered.workload)
    assert len(rendered.of_kind("PersistentVolumeClaim")) == claimed
    for probe in ("livenessProbe", "readinessProbe"):
        assert len({"httpGet", "tcpSocket", "exec"} & rendered.container[probe].keys()) == 1


def test_a_token_of_the_values_is_in_the_secret_only() -> None:
    rendered = render(case="everything")
    secret = rendered.only("Secret")
    encoded = base64.b64encode(TOKEN.encode()).decode()
    assert secret["data"] == {"production": encoded}
    others = json.dumps([found for found in rendered.objects if found is not secret])
    assert TOKEN not in others
    assert encoded not in others


def test_an_existing_secret_is_mounted_by_its_keys() -> None:
    """As files with the accounts' names that only the exporter's group can read."""
    rendered = render(case="accounts")
    assert rendered.of_kind("Secret") == []
    secret = rendered.at(f"{POD}.volumes.tokens.secret")
    assert (secret["secretName"], secret["defaultMode"]) == ("datarobot-tokens", 0o440)
    items = {(item["key"], item["path"]) for item in secret["items"]}
    assert items == {("Research_1.eu", "Research_1.eu"), ("production-token", "production")}


def test_the_network_policy_limits_ingress_and_egress() -> None:
    """To the given peers and ports, besides DNS; and the pod of `helm test` may connect."""
    given, rendered = CASES["everything"]["networkPolicy"], render(case="everything")
    spec = rendered.only("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    scraper, tester = spec["ingress"][0]["from"]
    assert scraper == given["ingress"]["from"][0]
    assert tester["podSelector"]["matchLabels"].items() <= rendered.at("Pod.metadata.labels").items()
    ports = [[(port["port"], port["protocol"]) for port in rule["ports"]] for rule in spec["egress"]]
    assert ports == [[(53, "UDP"), (53, "TCP")], [(443, "TCP"), (3128, "TCP")], [(8443, "TCP")]]
    egress = given["egress"]
    assert [rule["to"] for rule in spec["egress"]] == [egress["dns"], egress["to"], egress["extra"][0]["to"]]


# The configuration


def put_into(directory: Path, rendered: Rendered) -> Path:
    """Write the files of the exporter's container; return the configuration file, with paths adapted."""
    text = rendered.config_text
    volumes = {volume["name"]: volume for volume in rendered.pod["spec"]["volumes"]}
    for mount in rendered.container["volumeMounts"]:
        there = directory / mount["mountPath"].lstrip("/")
        there.mkdir(parents=True)
        volume = volumes.get(mount["name"], {})  # a shard's own is in no list
        for item in (volume.get("secret") or volume.get("configMap") or {}).get("items", []):
            if item["path"].endswith(".pem"):
                trustme.CA().cert_pem.write_to_path(str(there / item["path"]))
            else:
                (there / item["path"]).write_text(TOKEN)
        if mount["name"] == "web-config":
            write_web_file(there / "web-config.yml", tls=Certificates(there).files)
        text = text.replace(mount["mountPath"], str(there))
    (name,) = re.findall(r"--config.file=/(\S+)", " ".join(rendered.container["args"]))
    (directory / name).write_text(text)
    return directory / str(name)


@every_case
def test_the_exporter_accepts_its_configuration(case: str, tmp_path: Path) -> None:
    """With the mounted files and the set variables only."""
    rendered = render(case=case)
    environ = {each["name"]: each.get("value", TOKEN) for each in rendered.container.get("env", [])}
    settings = config.load(put_into(tmp_path, rendered), environ, {})
    given = CASES[case].get("config", {}).get("accounts", [{"name": "default"}])
    assert [account.name for account in settings.accounts] == [account["name"] for account in given]
    assert {account.authorization.credentials.token() for account in settings.accounts} == {TOKEN}
    assert settings.warnings == ()
    mounts = {each["name"]: each["mountPath"] for each in rendered.container["volumeMounts"]}
    assert "subPath" not in json.dumps(rendered.container)  # such a file does not follow a change
    assert rendered.config.get("state", {}).get("directory") == mounts.get("state")


def test_a_changed_configuration_or_token_replaces_the_pod() -> None:
    def changed(more: Values) -> set[str]:
        before, after = (render(more=each).pod["metadata"]["annotations"] for each in ({}, more))
        assert before.keys() == after.keys() == {"checksum/config", "checksum/secret"}
        return {key for key in before if before[key] != after[key]}

    assert changed({"config": {"poll": {"interval": "1m"}}}) == {"checksum/config"}
    assert changed({"credentials": {"tokens": {"production": "another"}}}) == {"checksum/secret"}
    assert changed({"resources": {"limits": {"memory": "1Gi"}}}) == set()


# Shards


def test_each_shard_is_a_pod_that_reads_its_number_from_its_name() -> None:
    """All start at once, have DNS names, and poll each account exactly once."""
    rendered = render(case="sharding")
    assert rendered.of_kind("Deployment") == rendered.of_kind("PersistentVolumeClaim") == []
    name, spec = rendered.workload["metadata"]["name"], rendered.workload["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"]) == (3, "Parallel")
    (names,) = (found for found in rendered.of_kind("Service") if found != rendered.service)
    domain = names["metadata"]["name"]
    assert spec["serviceName"] == domain
    assert (names["spec"]["clusterIP"], names["spec"]["publishNotReadyAddresses"]) == ("None", True)
    urls = [word for word in rendered.at(TESTER)["args"] if word.startswith("--url=")]
    assert urls == [f"--url=http://{name}-{index}.{domain}:10072" for index in range(3)]
    (variable,) = rendered.container["env"]
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    flags = {each.envvar: each.opts[0] for each in cli.command_line.params if isinstance(each, Option)}
    assert flags[variable["name"]] == "--shard.index"
    (total,) = re.findall(r"--shard.total=(\d+)", " ".join(rendered.container["args"]))
    shards = [parse_shard(f"{name}-{index}", total) for index in range(3)]
    for account in rendered.config["accounts"]:
        assert sum(shard.has(account["name"]) for shard in shards) == 1


def test_a_shards_pod_is_otherwise_the_deployments() -> None:
    one, shard = (render(more={"sharding": {"enabled": enabled}}).pod for enabled in (False, True))
    (container,), (other,) = one["spec"]["containers"], shard["spec"]["containers"]
    args = [*container["args"], "--shard.total=2"]
    spec = {**one["spec"], "containers": [{**container, "args": args, "env": other["env"]}]}
    assert shard == {**one, "spec": spec}


def test_claims_of_deployment_and_shards_are_the_same_and_kept() -> None:
    """The one by Helm, the others by Kubernetes; the user's annotations stay beside it."""
    one = render(case="persistence").only("PersistentVolumeClaim")
    (each,) = render(case="sharding").workload["spec"]["volumeClaimTemplates"]
    assert each["metadata"]["name"] == "state"
    assert each["metadata"]["annotations"] == {"example.com/backup": "false"}
    kept = {"helm.sh/resource-policy": "keep", **each["metadata"]["annotations"]}
    assert one["metadata"]["annotations"] == kept
    assert one["spec"] == each["spec"]
    assert one["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "standard",
    }


class InstalledRelease(SimpleHTTPRequestHandler):
    """The Kubernetes API as far as Helm asks it, from files."""

    def guess_type(self, path: object) -> str:
        return "application/json" if path else ""

    def log_message(self, *_: object) -> None:
        """Keep standard error clean."""


def test_changed_claims_of_shards_are_refused_with_the_way_out(tmp_path: Path) -> None:
    """Kubernetes would refuse them in the middle of the upgrade, without saying what to do."""
    installed = {"sharding": {"enabled": True}, "persistence": {"enabled": True}}
    kind = {"name": "statefulsets", "kind": "StatefulSet", "namespaced": True, "verbs": ["get"]}
    known = {"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [kind]}
    apps = tmp_path / "apis/apps/v1"
    (apps / "namespaces/there/statefulsets").mkdir(parents=True)
    (apps / "index.html").write_text(json.dumps(known))
    (apps / "namespaces/there/statefulsets" / OWN).write_text(json.dumps(render(more=installed).workload))
    (tmp_path / "kubeconfig").write_text("")
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(InstalledRelease, directory=str(tmp_path))) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        pool.submit(server.serve_forever, 0.02)
        address = f"--kube-apiserver=http://127.0.0.1:{server.server_port}"
        flags = ["--dry-run=server", address, f"--kubeconfig={tmp_path / 'kubeconfig'}"]

        def upgrade(more: str) -> str:
            return template(merged(MINIMAL, installed), *flags, f"--set={more}").stderr

        try:
            assert upgrade("sharding.shards=5") == ""
            for change in ("size=2Gi", "storageClassName=a", "annotations.a=b", "enabled=false"):
                error = upgrade(f"persistence.{change}")
                assert "persistence has changed, but Kubernetes does not allow" in error
                assert f"`kubectl -n there delete statefulset {OWN} --cascade=orphan`" in error
        finally:
            server.shutdown()


def test_no_client_certificate_is_needed() -> None:
    """Liveness is a command, which `test_health_commands.py` runs; a pod of `helm test` could not connect."""
    rendered = render("--set=webConfig.clientCertificates=true", case="web-config")
    assert rendered.of_kind("Pod") == []
    assert "exec" in rendered.container["livenessProbe"]


def test_the_service_monitor_gets_tls_and_a_password() -> None:
    given, endpoint = CASES["web-config"]["serviceMonitor"], render(case="web-config").at(MONITOR)
    assert endpoint["scheme"] == "https"
    assert (endpoint["tlsConfig"], endpoint["basicAuth"]) == (given["tlsConfig"], given["basicAuth"])


# Values


def refusal(values: Values, *flags: str) -> str:
    done = template(values, *flags)
    assert done.returncode != 0
    return done.stderr


ONE_CLAIM: Final = f"{SHARDS},{CLAIM},persistence.existingClaim=mine"
RULES: Final = "prometheusRule.enabled=true,prometheusRule"


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (
            f"{WEB},config.web.config_file=/b",
            "webConfig.existingSecret and config.web.config_file are both set",
        ),
        ("webConfig.tls=true", "webConfig.tls is set without a web configuration file"),
        ("webConfig.clientCertificates=true", "webConfig.clientCertificates is set without webConfig.tls"),
        ("serviceMonitor.basicAuth.a=b,serviceMonitor.authorization.a=b", "are both set; expected one of"),
        (ONE_CLAIM, "persistence.existingClaim is one volume, and sharding.enabled needs one for each shard"),
        ("replicaCount=2", "at '/replicaCount': maximum: got 2, want 1"),
        ("replicas=1", "additional properties 'replicas' not allowed"),
        ("serviceMonitor.job=tasks", "at '/serviceMonitor/job': 'tasks' does not match pattern"),
        ("service.port=http", "at '/service/port': got string, want integer"),
        ("config.pol.interval=1m", "at '/config': additional properties 'pol' not allowed"),
        ("config.poll.interval=30", "at '/config/poll/interval': got number, want null or str"),
        ("config.accounts[1].name=one", "at '/config/accounts/1': missing property 'endpoint'"),
        (r"podLabels.app\.kubernetes\.io/name=mine", "app.kubernetes.io~1name': false schema"),
        ("credentials.tokens.a b=c", "additional properties 'a b' not allowed"),
        (
            "config.accounts[0].authorization.credentials=x",
            "would put a token into a ConfigMap",
        ),
        ("image.repository=", "image.repository is empty; expected the image that you built"),
        ("credentials.existingSecret=a", "existingSecret and credentials.tokens are both set; expected one"),
        ("credentials.tokens.produktion=x", "tokens.produktion matches no account that needs a token"),
        ("credentials.keys.production=x", "credentials.keys is set without credentials.existingSecret"),
        ("config=null,credentials.tokens=null", "no account; expected some in config.accounts, or the vari"),
        ("config=null,credentials.existingSecret=mine", "existingSecret is set, but no account needs it"),
        (f"{RULES}.alerts.Stock.for=1m", "prometheusRule: Stock is not an alert of this chart"),
        (f"{RULES}.alerts.DataRobotTaskStuck.thresholds.task=2", "DataRobotTaskStuck has no threshold task"),
        (f"{RULES}.alerts.DataRobotTaskStuck.for=soon", "'soon' does not match pattern"),
    ],
)
def test_invalid_values_are_refused(more: str, error: str) -> None:
    assert error in refusal(MINIMAL, f"--set={more}")


def test_the_exporters_example_is_valid_in_the_values(tmp_path: Path) -> None:
    """With all keys, and gives the same configuration."""
    (tmp_path / "token").write_text(TOKEN)
    text = full_example().replace("/run/secrets/datarobot-token", str(tmp_path / "token"))
    example = yaml.safe_load(text)
    example["accounts"][0].update({section: example[section] for section in ("poll", "tasks")})
    rendered = render(more={"config": example, "credentials": {"tokens": None}})
    for name, content in (("ours", rendered.config_text), ("theirs", yaml.safe_dump(example))):
        (tmp_path / f"{name}.yaml").write_text(content)
    ours, theirs = (config.load(tmp_path / f"{name}.yaml", {}, {}) for name in ("ours", "theirs"))
    assert ours == theirs.model_copy(update={"source": ours.source, "file": ours.file})


# Documents


def test_the_chart_has_the_projects_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == PROJECT["version"]
    assert render().container["image"] == f"datarobot-exporter:{PROJECT['version']}"


@every_case
def test_the_notes_name_the_next_commands(case: str) -> None:
    """Helm shows notes after an installation only; here they are rendered in an object."""
    notes = 'kind: Notes\ntext: {{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}'
    rendered = render(more={"extraManifests": [notes]}, case=case)
    said = rendered.only("Notes")["text"]
    assert f"kubectl -n there port-forward service/{rendered.service['metadata']['name']} 10072:" in said
    assert "helm -n there test watch" in said
    assert "<no value>" not in said
    assert "{{" not in said


# The other files are named in their first line.
README_VALUES: Final = [
    yaml.safe_load(block)
    for block in re.findall("```yaml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    if not block.startswith("# web-config.yml")
]


@pytest.mark.parametrize("values", README_VALUES, ids=lambda values: next(iter(values)))
def test_the_readmes_values_are_accepted(values: Values) -> None:
    """Each merged with the first ones, which are the required values."""
    assert template(merged(README_VALUES[0], values)).stderr == ""


def test_all_errors_are_reported_at_once_as_in_the_readme() -> None:
    more = {"image": {"repository": ""}, "credentials": {"tokens": {"production": TOKEN}}}
    said = refusal(merged(README_VALUES[0], more), "--set=credentials.existingSecret=")
    (quoted,) = re.findall("```\n(- .*?)\n```", (CHART / "README.md").read_text(), re.DOTALL)
    assert len(quoted.splitlines()) > 1
    assert quoted in said
    assert TOKEN not in said

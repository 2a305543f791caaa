"""The Helm chart, rendered once for each set of values."""

import json
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml
from conftest import program


Object = dict[str, Any]
Values = Mapping[str, Any]

ROOT: Final = Path(__file__).parent.parent.parent
CHART: Final = ROOT / "deploy" / "helm" / "datarobot-exporter"
KUBERNETES: Final = ("1.25.0", "1.37.0")
OPERATOR: Final = "monitoring.coreos.com/v1"
TOKEN: Final = "not-a-real-token"
CASES: Final[Mapping[str, Values]] = {
    path.stem.removesuffix("-values"): yaml.safe_load(path.read_text())
    for path in sorted((CHART / "ci").glob("*-values.yaml"))
}
MINIMAL: Final[Values] = {
    "image": {"repository": "datarobot-exporter"},
    "config": {"accounts": [{"name": "production", "endpoint": "https://datarobot.example.com/api/v2"}]},
    "credentials": {"tokens": {"production": TOKEN}},
}

every_case = pytest.mark.parametrize("case", CASES)


def helm(*arguments: str | Path, values: Values) -> subprocess.CompletedProcess[str]:
    """Run helm with values on standard input."""
    command = [program("helm"), *arguments, "-f", "-"]
    return subprocess.run(command, input=json.dumps(values), check=False, capture_output=True, text=True)


def template(values: Values, *flags: str, release: str = "watch") -> subprocess.CompletedProcess[str]:
    version = f"--kube-version={KUBERNETES[-1]}"
    return helm("template", release, CHART, "--namespace=there", version, *flags, values=values)


def merged(values: Values, more: Values) -> Object:
    both = {
        key: merged(values[key], value) if key in values and isinstance(value, Mapping) else value
        for key, value in more.items()
    }
    return {**values, **both}


class Rendered(NamedTuple):
    """What the chart renders, and the templates that rendered something."""

    objects: tuple[Object, ...]
    sources: frozenset[str]

    def of_kind(self, kind: str) -> list[Object]:
        return [found for found in self.objects if found["kind"] == kind]

    def only(self, kind: str) -> Object:
        (found,) = self.of_kind(kind)
        return found

    @property
    def workload(self) -> Object:
        """The Deployment or StatefulSet."""
        (found,) = (*self.of_kind("Deployment"), *self.of_kind("StatefulSet"))
        return found

    @property
    def pod(self) -> Any:
        """The exporter's pod."""
        return self.workload["spec"]["template"]

    @property
    def container(self) -> Any:
        return self.pod["spec"]["containers"][0]

    @property
    def service(self) -> Object:
        """The Service of the exporter, not the headless one of the shards."""
        (found,) = (found for found in self.of_kind("Service") if "clusterIP" not in found["spec"])
        return found

    @property
    def config_text(self) -> str:
        """The exporter's configuration file."""
        data = [found["data"] for found in self.of_kind("ConfigMap")]
        (found,) = (each["config.yaml"] for each in data if "config.yaml" in each)
        return str(found)

    @property
    def config(self) -> Any:
        return yaml.safe_load(self.config_text) or {}

    @property
    def dashboards(self) -> dict[str, Any]:
        """Dashboards that Grafana's sidecar finds, by file name."""
        maps = self.of_kind("ConfigMap")
        found = [each for each in maps if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
        return {name: json.loads(text) for each in found for name, text in each["data"].items()}

    def at(self, path: str) -> Any:
        """Return what is at a path below a kind, with keys, places in lists, or names of list entries."""
        kind, *keys = path.split(".")
        found: Any = self.only(kind)
        for key in keys:
            if isinstance(found, list):
                found = found[int(key)] if key.isdigit() else {each["name"]: each for each in found}[key]
            else:
                found = found[key]
        return found


@cache
def _rendered(values: str, release: str, flags: tuple[str, ...]) -> Rendered:
    done = template(json.loads(values), *flags, release=release)
    assert (done.returncode, done.stderr) == (0, "")
    sources = re.findall(r"^# Source: datarobot-exporter/(.*)$", done.stdout, re.MULTILINE)
    objects = yaml.load_all(done.stdout, yaml.CSafeLoader)
    return Rendered(tuple(found for found in objects if found is not None), frozenset(sources))


def render(*flags: str, more: Values | None = None, case: str = "", release: str = "watch") -> Rendered:
    """Render the values of a file in the chart's `ci`, or those that are required, merged with more."""
    values = merged(CASES[case] if case else MINIMAL, more or {})
    return _rendered(json.dumps(values), release, flags)

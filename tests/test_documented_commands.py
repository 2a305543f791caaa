"""Every `sh` block of a document is run here, or has a reason why it cannot be.

A block without a check fails, and so does a check without a block. Those of `docs/getting-started.md` have
a test of their own, `integration/test_walk_through.py`.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Final

import click
import pytest
import requests
import trustme
import yaml
from conftest import DEADLINE_SECONDS, eventually, program
from documents import DOCUMENTS, ROOT, Block, Workspace, blocks, changed
from running import RunningExporter, free_port

from exporter.cli import command_line
from exporter.simulator.demo import DEMO_ACCOUNTS, simulated_token
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


(TASK,) = set(re.findall(r"tasks show (\S+-\S+)\n", (ROOT / "docs/command-line.md").read_text()))


class Setup:
    """A workspace, an address for the exporter, and a simulated DataRobot without activity."""

    def __init__(self, directory: Path) -> None:
        now = time.time()
        names = ("production", "research", "staging")
        accounts = {name: SimulatedAccount(name, start=now, profile=EMPTY) for name in names}
        accounts["production"].submit("Dataset", status="RUNNING", created=now - 36_000, status_id=TASK)
        self.simulator = Simulator({simulated_token(name): accounts[name] for name in names}, clock=time.time)
        self.simulator_address = self.simulator.origin.removeprefix("http://")
        self.address = f"127.0.0.1:{free_port()}"
        self.listen = {"DATAROBOT_EXPORTER_WEB_LISTEN_ADDRESS": self.address}
        self._directory = directory

    @cached_property
    def workspace(self) -> Workspace:
        """Return the workspace; it is made when it is first used."""
        return Workspace(self._directory, {})

    def metrics(self) -> str:
        """Return the exporter's metrics; nothing before it listens."""
        with suppress(requests.ConnectionError):
            return requests.get(f"http://{self.address}/metrics", timeout=DEADLINE_SECONDS).text
        return ""

    @contextmanager
    def exporter(self) -> Iterator[None]:
        """Run an exporter until it has polled."""
        with RunningExporter([], cwd=self.workspace.root, environ=self.listen) as running:
            eventually(lambda: running.get("/-/ready").ok)
            yield

    def configure(self) -> None:
        """Write the README's configuration of several accounts, for the simulator's."""
        (example,) = (block.text for block in blocks("README.md", "yaml") if block.first == "accounts:")
        for name in ("production", "research"):
            (self.workspace.root / f"{name}-token").write_text(simulated_token(name))
        authority = self.workspace.root / "private-ca.pem"
        trustme.CA().cert_pem.write_to_path(str(authority))
        text = changed(
            example,
            {
                "https://app.datarobot.com/api/v2": self.simulator.url,
                "https://datarobot.example.com/api/v2": self.simulator.url,
                "/run/secrets/": "",
                "/etc/ssl/private-ca.pem": str(authority),
            },
        )
        (self.workspace.root / "config.yaml").write_text(text)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    setup = Setup(tmp_path)
    with setup.simulator:
        yield setup


Check = Callable[[Block, Setup], None]
CHECKS: Final[dict[tuple[str, str], Check]] = {}


def runs(document: str, beginning: str) -> Callable[[Check], Check]:
    """Register a check for the block of this document that has this beginning."""

    def register(check: Check) -> Check:
        CHECKS[document, beginning] = check
        return check

    return register


def is_shown(block: Block, document: str, beginning: str) -> bool:
    return document == block.document and block.first.startswith(beginning)


def check_of(block: Block) -> list[Check]:
    return [check for place, check in CHECKS.items() if is_shown(block, *place)]


HELM: Final = "deploy/helm/datarobot-exporter/README.md"
COMPOSE: Final = "deploy/compose/README.md"
SYSTEMD: Final = "deploy/systemd/README.md"
INSTALL: Final = "python3 -m venv /opt/datarobot-exporter\n/opt/datarobot-exporter/bin/pip install .\n"


# Blocks that are run.

ACCOUNTS: Final = [r"^production +yes +yes +1 +\d+ms$", r"^research +yes +yes +0 +\d+ms$"]
PRINTED: Final[dict[tuple[str, str], list[str]]] = {
    ("docs/getting-started.md", "datarobot-exporter --config.check"): ACCOUNTS,
    ("docs/command-line.md", "datarobot-exporter accounts check"): ACCOUNTS,
    ("docs/command-line.md", "datarobot-exporter tasks list --stuck"): [
        rf"^production  {TASK}  Dataset",
        rf"^{TASK}$",
        r"^stuck +yes, limit 1h$",
        rf"^{TASK}: deleted from production\n\Z",
    ],
    ("docs/command-line.md", "curl -s localhost:10073/simulator/faults"): [r'\{"production":\{"now":'],
    ("docs/dashboards.md", "datarobot-exporter tasks show ID"): [rf"^id +{TASK}$"],
    ("docs/status-page.md", "curl -s http://localhost:10072/api/v1/status"): [r"\Aproduction\n\Z"],
    (SYSTEMD, "systemctl status datarobot-exporter"): [r'^datarobot_up\{account="production"\} 1.0$'],
}
"""What the commands print, by document and beginning."""


def print_what_is_expected(block: Block, setup: Setup) -> None:
    """With `--yes`, as nobody answers the question here, and without systemd."""
    for name in ("curl", "jq"):
        program(name)
    setup.configure()
    text = block.text.replace("tasks delete ", "tasks delete --yes ").replace(" ID", f" {TASK}")
    text = re.sub(r"^(systemctl|journalctl) ", "true ", text, flags=re.MULTILINE)
    text = text.replace("localhost:10072", setup.address).replace("localhost:10073", setup.simulator_address)
    with setup.exporter() if setup.address in text else nullcontext():
        output = setup.workspace.run(text)
    assert '"message"' not in output
    ((_, expected),) = [each for each in PRINTED.items() if is_shown(block, *each[0])]
    for pattern in expected:
        assert re.search(pattern, output, re.MULTILINE), output


CHECKS.update(dict.fromkeys(PRINTED, print_what_is_expected))


@runs("README.md", "make demo")
def demo(block: Block, setup: Setup) -> None:
    with setup.workspace.running(block.text, until="Press Ctrl-C to stop.", **setup.listen):
        eventually(lambda: setup.metrics().count("datarobot_up{") == len(DEMO_ACCOUNTS))


@runs("docs/command-line.md", "datarobot-exporter demo --write-config demo.yaml")
def list_tasks_of_the_demo(block: Block, setup: Setup) -> None:
    """The demo prints these commands; its simulator has a free port here."""
    listen = f"127.0.0.1:{free_port()}"
    flags = ["demo", "--listen", listen, f"--web.listen-address={setup.address}"]
    with RunningExporter(flags, cwd=setup.workspace.root) as running:
        eventually(lambda: any(line.startswith("Press") for line in running.printed))
        _, use = block.text.replace("datarobot-exporter ", "").splitlines()
        assert use in "\n".join(running.printed)
        assert " stuck\n" in setup.workspace.run(block.text, DATAROBOT_EXPORTER_DEMO_LISTEN=listen)


@runs("README.md", "python3 -m venv ~/datarobot-exporter")
def install_and_run(block: Block, setup: Setup) -> None:
    """Offline; the dependencies are installed already."""
    (site,) = (path for path in sys.path if path.endswith("site-packages"))
    commands = changed(
        block.text,
        {
            "~/": f"{setup.workspace.root}/home/",
            "pip install .": "pip install --quiet --no-deps --no-index --no-build-isolation .",
            "https://app.datarobot.com/api/v2": setup.simulator.url,
            "…": simulated_token("production"),
        },
    )
    with setup.workspace.running(commands, until="event=exporter.started", PYTHONPATH=site, **setup.listen):
        eventually(lambda: 'datarobot_up{account="default"} 1.0' in setup.metrics())
        assert (setup.workspace.root / "home/datarobot-exporter/bin/datarobot-exporter").exists()


@runs("README.md", "python3 -m venv /opt/datarobot-exporter")
def install_as_a_service(block: Block, setup: Setup) -> None:
    """Below another root, without systemd, and without pip, which `install_and_run` runs."""
    root = setup.workspace.root
    (root / "token").write_text("obviously-fake-token\n")
    (root / "etc/systemd/system").mkdir(parents=True)
    assert block.text.startswith(INSTALL)
    commands = changed(block.text.removeprefix(INSTALL), {"/etc/": f"{root}/etc/", "systemctl ": "true "})
    setup.workspace.run(commands)
    unit = (root / "etc/systemd/system/datarobot-exporter.service").read_text()
    assert "\nExecStart=/opt/datarobot-exporter/bin/datarobot-exporter" in unit
    assert (root / "etc/datarobot-exporter/token").stat().st_mode & 0o777 == 0o600
    (configured,) = re.findall(r"^Environment=DATAROBOT_EXPORTER_CONFIG_FILE=/(\S+)", unit, re.MULTILINE)
    assert (root / configured).exists()


@runs("README.md", "datarobot-exporter --config.file config.yaml --config.check")
def check_once_and_run(block: Block, setup: Setup) -> None:
    setup.configure()
    with setup.workspace.running(block.text, until="event=exporter.started", **setup.listen) as output:
        assert "config.yaml: configuration is valid (2 accounts)" in output()
        assert 'datarobot_up{account="research"} 1.0' in output()


@runs("docs/deployment.md", "datarobot-exporter --config.file config.yaml --shard.total")
def run_a_shard(block: Block, setup: Setup) -> None:
    setup.configure()
    with setup.workspace.running(block.text, until="event=exporter.started", **setup.listen) as output:
        assert "shard_index=0 shard_total=3" in output()
        assert "datarobot_exporter_build_info" in setup.metrics()


@runs("docs/command-line.md", 'eval "$(datarobot-exporter completion bash)"')
def complete(block: Block, setup: Setup) -> None:
    """In bash; of the other shells, which may be missing, only the script is generated."""
    bash, *others = block.text.splitlines()
    assert "_datarobot_exporter_completion" in setup.workspace.run(f"{bash}\ncomplete -p datarobot-exporter")
    for line, word in zip(others, ("compdef", "complete --no-files"), strict=True):
        (script,) = re.findall(r"datarobot-exporter completion \w+", line)
        assert word in setup.workspace.run(script)


@runs("docs/command-line.md", "datarobot-exporter simulate --listen")
def simulate(block: Block, setup: Setup) -> None:
    commands = changed(block.text, {"127.0.0.1:10073": f"127.0.0.1:{free_port()}"})
    with setup.workspace.running(commands, until="credentials: simulated-staging"):
        pass


@runs(COMPOSE, "curl -X POST localhost:10073/simulator/faults")
def break_and_repair(block: Block, setup: Setup) -> None:
    program("curl")
    inject, clear = changed(block.text, {"localhost:10073": setup.simulator_address}).splitlines()
    headers = {"Authorization": f"Bearer {simulated_token('staging')}"}

    def status() -> int:
        listing = requests.get(f"{setup.simulator.url}/status/?offset=0&limit=1", headers=headers, timeout=10)
        return listing.status_code

    setup.workspace.run(inject)
    assert status() == 503
    setup.workspace.run(clear)
    assert status() == 200


@runs(COMPOSE, "(umask 077 && mkdir -p deploy/compose/secrets)")
def put_the_token(block: Block, setup: Setup) -> None:
    """Without the last line, which starts containers."""
    setup.workspace.run(block.without("docker compose"), given="obviously-fake-token\n")
    token = setup.workspace.root / "deploy/compose/secrets/datarobot-token"
    assert token.read_text() == "obviously-fake-token\n"
    assert token.stat().st_mode & 0o777 == 0o644
    assert token.parent.stat().st_mode & 0o077 == 0
    composed = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())
    file = composed["secrets"]["datarobot-token"]["file"]
    assert file == "${DATAROBOT_TOKEN_FILE:-./secrets/datarobot-token}"
    assert ["account"] in [service.get("profiles") for service in composed["services"].values()]


@runs("CONTRIBUTING.md", "promtool check rules")
def check_rules_and_copy(block: Block, setup: Setup) -> None:
    """With the shortest of the rule tests; the copies are the same as in the repository."""
    program("promtool")
    chart = "deploy/helm/datarobot-exporter/files"
    for path in (setup.workspace.root / chart).glob("*/*"):
        path.write_text("out of date\n")
    output = setup.workspace.run(changed(block.text, {"tests/*.yaml": "tests/exporter.yaml"}))
    assert "FAILED" not in output
    for path in (setup.workspace.root / chart).glob("*/*"):
        assert path.read_bytes() == (ROOT / path.relative_to(setup.workspace.root)).read_bytes()


@runs("docs/alerting.md", "RUNBOOKS=https://wiki.internal/runbooks")
def link_alerts(block: Block, setup: Setup) -> None:
    """`tests/deploy/test_prometheus_rules.py` reads the result."""
    setup.workspace.run(block.text, cwd="deploy/prometheus")
    for path in (setup.workspace.root / "deploy/prometheus/rules").iterdir():
        assert "runbook_url: https://wiki.internal/runbooks/DataRobot" in path.read_text()


@runs("docs/dashboards.md", "python deploy/grafana/source DIRECTORY")
def link_dashboards(block: Block, setup: Setup) -> None:
    (setup.workspace.root / "linked").mkdir()
    setup.workspace.run(changed(block.text, {"DIRECTORY": "linked"}))
    for path in (setup.workspace.root / "deploy/grafana/dashboards").iterdir():
        assert "wiki.internal" not in path.read_text()
        assert "wiki.internal/runbooks/DataRobot" in (setup.workspace.root / "linked" / path.name).read_text()


@runs(SYSTEMD, "install -d -m 755 /etc/datarobot-exporter")
def configure_for_systemd(block: Block, setup: Setup) -> None:
    """Below another root, and without an editor."""
    etc = setup.workspace.root / "etc"
    setup.workspace.run(changed(block.text, {"/etc/": f"{etc}/", "editor ": "ls "}))
    assert (etc / "datarobot-exporter/token").stat().st_mode & 0o777 == 0o600
    installed = sorted(path.name for path in (etc / "datarobot-exporter").iterdir())
    assert installed == ["config.yaml", "environment", "token"]


@runs("README.md", "make test")
def dry_run_tests(block: Block, setup: Setup) -> None:
    assert "-m pytest -n auto" in setup.workspace.run(changed(block.text, {"make": "make --dry-run"}))


@runs("README.md", "helm -n monitoring install")
@runs(HELM, "helm -n monitoring install")
def render(block: Block, setup: Setup) -> None:
    """`helm template` renders the same without a cluster; `helm test` has a hook."""
    program("helm")
    (shown,) = (each.text for each in blocks(block.document, "yaml") if each.first == "# values.yaml")
    (setup.workspace.root / "values.yaml").write_text(shown)
    test = "helm -n monitoring test datarobot-exporter"
    commands = changed(
        block.text,
        {
            "helm -n monitoring install": "helm -n monitoring template --kube-version=1.30.0",
            test: "helm lint -f values.yaml deploy/helm/datarobot-exporter >&2",
        },
    )
    rendered = setup.workspace.run(f"{{\n{commands}}} 2>lint.log")
    documents = {each["kind"]: each for each in yaml.safe_load_all(rendered) if each}
    assert "helm.sh/hook: test" in rendered
    if block.document == HELM:
        (container,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
        assert container["image"].startswith("registry.example.com/datarobot-exporter:")
    else:
        assert {"Deployment", "ServiceMonitor", "PrometheusRule"} <= documents.keys()


# Blocks that cannot be run: the reason, and the names in them that must be in another file.

COMPOSED: Final = [(r"--profile (\w+)", "deploy/compose/compose.yaml", "profiles: [{}]")]
NOT_RUN: Final[dict[tuple[str, str], tuple[str, list[tuple[str, str, str]]]]] = {
    ("README.md", "docker compose -f"): ("needs a Docker daemon", COMPOSED),
    (COMPOSE, "docker compose -f"): ("needs a Docker daemon", COMPOSED),
    ("README.md", "docker build -t datarobot-exporter ."): (
        "needs a Docker daemon",
        [
            (r"-p 10072:(\d+)", "Dockerfile", "\nEXPOSE {}\n"),
            (r":(\S+)/config\.yaml:ro", "Dockerfile", "\nWORKDIR {}\nUSER "),
            (r"-v \./token:(\S+):ro", "README.md", "credentials_file: {}"),
            (r" (datarobot-exporter)$", "Dockerfile", 'ENTRYPOINT ["{}"]'),
        ],
    ),
    (HELM, "docker build -t registry.example.com"): (
        "needs a registry",
        [
            (r"(registry\S+):", HELM, "\n  repository: {}\n"),
            (r"registry\S+:(\S+)", "deploy/helm/datarobot-exporter/Chart.yaml", '\nappVersion: "{}"\n'),
        ],
    ),
    (HELM, "kubectl -n monitoring create secret generic datarobot-tokens"): (
        "needs a cluster",
        [(r"generic (\S+)", HELM, "existingSecret: {}\n"), (r"from-file=(\w+)=", HELM, "- name: {}\n")],
    ),
    (HELM, "kubectl -n monitoring create secret generic datarobot-exporter-web"): (
        "needs a cluster",
        [
            (r"generic (\S+)", HELM, "{{name: {}, key: "),
            (r"generic (\S+web)", HELM, "existingSecret: {}\n"),
            (r"from-file=(ca.crt|password)|from-literal=(username)=", HELM, ", key: {}}}"),
        ],
    ),
    ("docs/getting-started.md", "sudo apt-get install"): (
        "installs on this machine",
        [(r"(?<!sudo) (?!install|disable|--)(\S+)", ".ci/run", " {}")],
    ),
    (SYSTEMD, "python3 -m venv /opt"): ("`install_and_run` does", [(r"(?s)(.*)", "README.md", "{}")]),
    (SYSTEMD, "install -m 644 deploy/systemd/datarobot-exporter.service"): (
        "needs systemd; `deploy/test_systemd.py` verifies the unit",
        [(r"enable --now (\S+)", "README.md", "deploy/systemd/{}.service /etc/systemd/system/")],
    ),
}


def names_exist(block: Block, _setup: Setup) -> None:
    ((_, (reason, names)),) = [each for each in NOT_RUN.items() if is_shown(block, *each[0])]
    assert reason
    for pattern, file, text in names:
        found = [match[match.lastindex or 0] for match in re.finditer(pattern, block.text, re.MULTILINE)]
        assert found, pattern
        for name in found:
            assert text.format(name) in (ROOT / file).read_text(), name
    for path in re.findall(r"(?<= )deploy/[\w./-]+", block.text):
        assert (ROOT / path).exists(), path


CHECKS.update(dict.fromkeys(NOT_RUN, names_exist))

SHOWN: Final = [block for document in DOCUMENTS for block in blocks(document, "sh") if not block.walk_through]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", SHOWN, ids=lambda block: f"{block.document}: {block.first[:40]}")
def test_a_documented_command_works(block: Block, setup: Setup) -> None:
    checks = check_of(block)
    assert len(checks) == 1, f"{block.first!r} of {block.document} has {len(checks)} checks; expected one"
    checks[0](block, setup)


def test_every_check_has_its_block() -> None:
    found = [check for block in SHOWN for check in check_of(block)]
    assert len(found) == len(CHECKS)
    assert set(found) == set(CHECKS.values())


def test_no_command_hides_in_a_block_of_another_language() -> None:
    """Commands are in `sh` blocks; other blocks are files, queries and output."""
    languages = {"sh", "yaml", "promql", "ini", ""}
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        assert set(re.findall(r"^ *```(\w+)$", text, re.MULTILINE)) <= languages
        assert not [
            block.first for block in blocks(document, "") if re.match(r"\$ |make |curl ", block.first)
        ]


TARGETS: Final = set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
PROGRAMS: Final = (
    "datarobot-exporter|make|python3?|docker|curl|kubectl|systemctl|systemd-analyze|promtool|amtool"
)


def in_passing(document: str) -> list[str]:
    """Return the commands in the text of a document, outside its blocks."""
    text = re.sub(r"^( *)```.*?^\1```$", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(rf"`(?:\w+=\S+ )?((?:{PROGRAMS}) [^`]+)`", text)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_command_named_in_passing_names_what_exists(document: str) -> None:
    for command in in_passing(document):
        match command.split():
            case ["make", target, *_]:
                assert target in TARGETS, command
            case ["datarobot-exporter", *words]:
                found: click.Command = command_line
                for word in words:
                    if not word.startswith("--"):
                        assert isinstance(found, click.Group), command
                        found = found.commands[word]
            case ["python" | "python3", path, *_]:
                assert (ROOT / path).exists(), command
            case ["docker", "compose", "-f", path, *_]:
                assert (ROOT / path).exists(), command
            case ["systemctl" | "systemd-analyze", _, unit]:
                assert (ROOT / f"deploy/systemd/{unit}.service").exists(), command
            case [asked, *_]:
                assert asked in {"curl", "kubectl", "promtool", "amtool"}, command


def test_commands_in_passing_are_found() -> None:
    assert sum(len(in_passing(document)) for document in DOCUMENTS) > 20

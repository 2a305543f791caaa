"""Rules, their tests, runbooks and routes: each is valid, and they speak of the same alerts and metrics."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from alerting import ROUTES, RULES
from conftest import program
from example import full_example

from exporter.metrics.catalogue import CATALOGUE, PROCESS_CATALOGUE


ROOT: Final = Path(__file__).parent.parent.parent
DEPLOY: Final = ROOT / "deploy"
TESTS: Final = tuple(sorted((DEPLOY / "prometheus" / "tests").glob("*.yaml")))
RUNBOOKS: Final = tuple(sorted((DEPLOY / "runbooks").glob("*.md")))
HEADINGS: Final = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


ALERTS: Final = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED: Final = {rule["record"]: rule for rule in rules() if "record" in rule}

every_alert = pytest.mark.parametrize("name", sorted(ALERTS))
every_runbook = pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)


def run(*arguments: str | Path) -> str:
    """What a program says; it must succeed."""
    command = [program(str(arguments[0])), *map(str, arguments[1:])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def metrics_exposed() -> set[str]:
    names = {"up"}
    for row in (*CATALOGUE, *PROCESS_CATALOGUE):
        names.add(row.name)
        if row.type == "histogram":
            names.update(f"{row.name}_{part}" for part in ("bucket", "count", "sum"))
    return names


def metrics_named(text: str) -> set[str]:
    """Names of ours in a text, recorded ones whole."""
    names = re.findall(r"\b(?:[a-z_]+:datarobot_\w+:\w+|datarobot_[a-z_]+)", text)
    return set(names) - {"datarobot_exporter"}


def text_of(rule: Mapping[str, Any]) -> str:
    """Where a rule names metrics: its expression, and queries in its annotations."""
    return "\n".join([rule["expr"], *rule.get("annotations", {}).values()])


def test_promtool_finds_the_rules_clean() -> None:
    said = run("promtool", "check", "rules", "--lint-fatal", *RULES)
    assert said.count("SUCCESS") == len(RULES)


def test_promtool_finds_prometheus_own_configuration_clean() -> None:
    run("promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yaml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_pass_their_tests(path: Path) -> None:
    run("promtool", "test", "rules", path)


def test_amtool_finds_the_routes_clean() -> None:
    run("amtool", "check-config", ROUTES)


@every_alert
def test_every_alert_is_tested_firing_and_silent(name: str) -> None:
    cases = [
        bool(case["exp_alerts"])
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == name
    ]
    assert {True, False} <= set(cases)


@every_alert
def test_every_alert_says_what_a_person_needs(name: str) -> None:
    """One sentence each, with at most one query; the second has numbers and ends with the command to run."""
    alert = ALERTS[name]
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    # Links are set in one place, and left out until then.
    assert alert["annotations"].keys() == {"summary", "description"}
    summary, description = alert["annotations"]["summary"], alert["annotations"]["description"]
    assert re.fullmatch(r"[^.]+\.", re.sub(r"\{\{.*?\}\}", "", summary))
    command = description.partition("; run: ")[2]
    assert re.match(r"(datarobot-exporter|curl|df|timedatectl)\b", command)
    assert all(text.count("query") <= 1 for text in (summary, description))
    assert "humanize" in description or name == "DataRobotExporterDown"


def test_the_rules_can_be_read_at_night() -> None:
    """Few lines, few recording rules, short expressions; no address of somebody else."""
    assert sum(len(path.read_text().splitlines()) for path in RULES) <= 300
    assert len(RECORDED) <= 8
    for rule in rules():
        lines = rule["expr"].strip().splitlines()
        assert len(lines) <= 5
        assert max(map(len, lines)) <= 115
    assert "example" not in "".join(path.read_text() for path in RULES)


def test_an_event_needs_no_for_and_a_stuck_task_little() -> None:
    """The time to page in docs/alerting.md is made of these."""
    waits = {name: alert.get("for", "0s") for name, alert in ALERTS.items()}
    assert waits["DataRobotTasksFailing"] == waits["DataRobotTaskFailureRatioHigh"] == "0s"
    assert waits["DataRobotTaskStuck"] == waits["DataRobotTaskNeverStarted"] == "30s"


def test_a_cancelled_task_raises_nothing() -> None:
    for name in ("DataRobotTasksFailing", "DataRobotTaskFailureRatioHigh"):
        assert "ERROR|EXPIRED" in ALERTS[name]["expr"]
        assert not re.search(r"=~?\"[^\"]*ABORTED", ALERTS[name]["expr"].replace('!~"ABORTED', "")), name


def test_an_alert_that_reads_another_comes_after_it_in_its_group() -> None:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            seen: set[str] = set()
            for rule in group["rules"]:
                named = set(re.findall(r"DataRobot\w+", " ".join(re.findall(r"ALERTS\{.*?\}", rule["expr"]))))
                assert named <= seen, rule
                seen.add(rule.get("alert", ""))


def test_no_rule_knows_the_name_of_a_job() -> None:
    assert [rule for rule in rules() if re.search(r"\bjob\s*[!=]", rule["expr"])] == []


def test_every_metric_in_a_rule_exists() -> None:
    named = {name for rule in rules() for name in metrics_named(text_of(rule))}
    assert named - metrics_exposed() - set(RECORDED) == set()


def test_every_recorded_metric_has_a_name_in_three_parts_and_is_made_of_one_that_exists() -> None:
    exposed = metrics_exposed()
    suffixes = ("", "_total", "_timestamp_seconds")
    for name in RECORDED:
        level, metric, operations = name.split(":")
        assert level
        assert operations
        assert any(f"{metric}{suffix}" in exposed for suffix in suffixes), name


def test_every_recorded_metric_is_used_or_offered() -> None:
    """By a rule, or to the user, in a table with the labels that are left."""
    used = {name for rule in rules() for name in metrics_named(rule["expr"])}
    page = (ROOT / "docs" / "alerting.md").read_text()
    offered = dict(re.findall(r"^\| `(\w+:datarobot_\w+:\w+)` \| ([a-z_, ]+) \|", page, flags=re.MULTILINE))
    assert set(RECORDED) - used - set(offered) == set()
    left = {name: re.match(r"\w+ by \((.*?)\)", RECORDED[name]["expr"]) for name in offered}
    assert {name: found and found[1] for name, found in left.items()} == offered


def test_every_alert_has_a_runbook_and_every_runbook_its_alert() -> None:
    assert [path.stem for path in RUNBOOKS] == sorted(ALERTS)


@every_runbook
def test_a_runbook_has_four_parts_and_something_in_each(runbook: Path) -> None:
    title, *parts = re.split(r"^#{1,2} (.+)\n", runbook.read_text(), flags=re.MULTILINE)[1:]
    assert title == runbook.stem
    assert len(runbook.read_text().splitlines()) <= 80
    assert parts[1::2] == HEADINGS
    assert all(part.strip() for part in parts[2::2])


@every_runbook
def test_every_metric_in_a_runbook_exists(runbook: Path) -> None:
    assert metrics_named(runbook.read_text()) - metrics_exposed() - set(RECORDED) == set()


@every_runbook
def test_every_query_in_a_runbook_can_be_parsed(runbook: Path, tmp_path: Path) -> None:
    """Each is one line, or is in brackets over several."""
    blocks = re.findall(r"```promql\n(.*?)```", runbook.read_text(), flags=re.DOTALL)
    queries: list[str] = []
    for line in "\n".join(blocks).splitlines():
        if queries and queries[-1].count("(") > queries[-1].count(")"):
            queries[-1] += line
        elif line.strip():
            queries.append(line)
    made = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "runbook", "rules": made}]}))
    assert queries
    run("promtool", "check", "rules", tmp_path / "rules.json")


@every_runbook
def test_every_event_and_key_in_a_runbook_exists(runbook: Path) -> None:
    """In backquotes, `noun.participle` is a log event, and a dotted path a key of the configuration."""
    source = "".join(path.read_text() for path in (ROOT / "exporter").rglob("*.py"))
    events = set(re.findall(r'"([a-z]+\.[a-z_]+)"', source))
    example = yaml.safe_load(full_example())
    sections = {**example["accounts"][0], **example}
    keys = {f"{name}.{key}" for name, body in sections.items() if isinstance(body, dict) for key in body}
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)(?:: \w+)?`", runbook.read_text()))
    assert named - events - keys == set()


def documents() -> Iterator[tuple[str, str]]:
    """Every text in which an alert could be named."""
    suffixes = {".md", ".yaml", ".yml", ".json", ".tpl", ".txt", ".py"}
    for path in sorted([*DEPLOY.rglob("*"), *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]):
        if path.suffix in suffixes and path.is_file():
            yield str(path.relative_to(ROOT)), path.read_text()


def test_every_alert_that_is_named_anywhere_exists() -> None:
    named = {
        (where, name) for where, text in documents() for name in re.findall(r"\bDataRobot[A-Z]\w+", text)
    }
    assert {name for _, name in named} >= set(ALERTS)
    assert [(where, name) for where, name in sorted(named) if name not in ALERTS] == []


def test_the_documented_table_of_alerts_is_that_of_the_rules() -> None:
    """With severity, `for`, and the thresholds that the expression names."""
    table = re.findall(
        r"^\| \[(DataRobot\w+)\]\(\.\./deploy/runbooks/(\w+)\.md\) \| (\w+) \| (\w+) \| (.*?) \| .+ \|$",
        (ROOT / "docs" / "alerting.md").read_text(),
        flags=re.MULTILINE,
    )
    assert table == [
        (
            name,
            name,
            alert["labels"]["severity"],
            alert.get("for", "0s"),
            ", ".join(thresholds(alert["expr"])),
        )
        for name, alert in ALERTS.items()
    ]


def thresholds(expression: str) -> list[str]:
    """What comments in an expression name: `> 0.5 # ratio` is `ratio 0.5`."""
    return [
        f"{name} {number}"
        for number, name in re.findall(r"([\d.]+) # (\w+)$", expression, flags=re.MULTILINE)
    ]


def test_prometheus_loads_the_rules_from_where_compose_mounts_them() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    assert prometheus["rule_files"] == ["/etc/prometheus/rules/*.yaml"]


def test_one_outage_of_many_accounts_is_one_notification() -> None:
    """Alerts about an API carry its endpoint, by which they are grouped."""
    route = yaml.safe_load(ROUTES.read_text())["route"]
    assert route["group_by"] == ["alertname", "endpoint"]
    assert all("group_by" not in child for child in route["routes"])


def test_the_documented_command_adds_the_links(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "alerting.md").read_text()
    (command,) = (
        block for block in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL) if "runbook_url" in block
    )
    copies = tmp_path / "rules"
    copies.mkdir()
    for path in RULES:
        (copies / path.name).write_text(path.read_text())
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True)
    run("promtool", "check", "rules", *sorted(copies.iterdir()))
    for path in sorted(copies.iterdir()):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    found = rule["annotations"]
                    assert found["runbook_url"] == f"https://wiki.internal/runbooks/{rule['alert']}.md"
                    dashboard = f"https://grafana.internal/d/{path.stem}{{{{ with $labels.account }}}}"
                    assert found["dashboard_url"].startswith(dashboard)

"""Rules, their tests, runbooks and routes: each is valid, and they speak of the same alerts and metrics."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from alerting import ROUTES, RULES
from chart import ROOT
from conftest import program
from example import full_example

from exporter.metrics.catalogue import CATALOGUE, PROCESS_CATALOGUE


DEPLOY: Final = ROOT / "deploy"
TESTS: Final = tuple(sorted((DEPLOY / "prometheus" / "tests").glob("*.yaml")))
CASES: Final = [test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]
RUNBOOKS: Final = {path.stem: path.read_text() for path in sorted((DEPLOY / "runbooks").glob("*.md"))}
PAGE: Final = (ROOT / "docs" / "alerting.md").read_text()
HISTOGRAMS: Final = [row.name for row in CATALOGUE if row.type == "histogram"]


def rules_of(paths: tuple[Path, ...]) -> list[dict[str, Any]]:
    groups = [group for path in paths for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


EVERY_RULE: Final = rules_of(RULES)
ALERTS: Final = {rule["alert"]: rule for rule in EVERY_RULE if "alert" in rule}
RECORDED: Final = {rule["record"]: rule for rule in EVERY_RULE if "record" in rule}
EXPOSED: Final = {
    *("up", *(row.name for row in (*CATALOGUE, *PROCESS_CATALOGUE))),
    *(f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "count", "sum")),
}

every_alert = pytest.mark.parametrize("name", sorted(ALERTS))


def run(*arguments: str | Path) -> str:
    """What a program says; it must succeed."""
    command = [program(str(arguments[0])), *map(str, arguments[1:])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def metrics_named(text: str) -> set[str]:
    """Names of ours in a text, recorded ones whole."""
    names = re.findall(r"\b(?:[a-z_]+:datarobot_\w+:\w+|datarobot_[a-z_]+)", text)
    return set(names) - {"datarobot_exporter"}


def test_promtool_and_amtool_find_rules_configuration_and_routes_clean() -> None:
    assert run("promtool", "check", "rules", "--lint-fatal", *RULES).count("SUCCESS") == len(RULES)
    run("promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yaml")
    run("amtool", "check-config", ROUTES)
    route = ("amtool", "config", "routes", "test", f"--config.file={ROUTES}")
    for severity, receiver in (("critical", "page"), ("warning", "ticket")):
        assert run(*route, f"severity={severity}").splitlines()[0] == receiver


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_pass_their_tests(path: Path) -> None:
    run("promtool", "test", "rules", path)


@every_alert
def test_every_alert_is_tested_firing_and_silent(name: str) -> None:
    cases = [case for test in CASES for case in test.get("alert_rule_test", []) if case["alertname"] == name]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


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


def test_the_rules_are_short_and_name_no_job() -> None:
    assert sum(len(path.read_text().splitlines()) for path in RULES) <= 300
    for rule in EVERY_RULE:
        lines = rule["expr"].strip().splitlines()
        assert len(lines) <= 5
        assert max(map(len, lines)) <= 115
        assert not re.search(r"\bjob\s*[!=]", rule["expr"])


def test_an_alert_that_reads_another_comes_after_it() -> None:
    """In the same file, which is one group."""
    for path in RULES:
        seen: set[str] = set()
        for rule in rules_of((path,)):
            read = " ".join(re.findall(r"ALERTS\{.*?\}", rule["expr"]))
            assert set(re.findall(r"DataRobot\w+", read)) <= seen, rule
            seen.add(rule.get("alert", ""))


def test_every_metric_in_a_rule_exists() -> None:
    for rule in EVERY_RULE:
        text = "\n".join([rule["expr"], *rule.get("annotations", {}).values()])
        assert metrics_named(text) <= EXPOSED | RECORDED.keys()


def test_every_recorded_metric_is_used_or_offered() -> None:
    """By a rule, or to the user, in a table with the labels that are left."""
    used = {name for rule in EVERY_RULE for name in metrics_named(rule["expr"])}
    offered = dict(re.findall(r"^\| `(\w+:datarobot_\w+:\w+)` \| ([a-z_, ]+) \|", PAGE, re.MULTILINE))
    assert RECORDED.keys() - used - offered.keys() == set()
    assert {name: re.findall(r"^\w+ by \((.*?)\)", RECORDED[name]["expr"]) for name in offered} == {
        name: [labels] for name, labels in offered.items()
    }


def test_every_alert_has_a_runbook_and_every_runbook_its_alert() -> None:
    assert list(RUNBOOKS) == sorted(ALERTS)


@every_alert
def test_a_runbook_has_four_parts_and_names_what_exists(name: str) -> None:
    """In backquotes, `noun.participle` is a log event, and a dotted path a key of the configuration."""
    text = RUNBOOKS[name]
    title, *parts = re.split(r"^#{1,2} (.+)\n", text, flags=re.MULTILINE)[1:]
    assert title == name
    assert len(text.splitlines()) <= 80
    assert parts[1::2] == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert all(part.strip() for part in parts[2::2])
    assert metrics_named(text) <= EXPOSED | RECORDED.keys()
    source = "".join(path.read_text() for path in (ROOT / "exporter").rglob("*.py"))
    events = set(re.findall(r'"([a-z]+\.[a-z_]+)"', source))
    example = yaml.safe_load(full_example())
    sections = {**example["accounts"][0], **example}
    keys = {f"{name}.{key}" for name, body in sections.items() if isinstance(body, dict) for key in body}
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+)(?:: \w+)?`", text)) <= events | keys


def test_every_query_in_a_runbook_can_be_parsed(tmp_path: Path) -> None:
    """Each is one line, or is in brackets over several."""
    groups = []
    for name, text in RUNBOOKS.items():
        queries: list[str] = []
        for line in "".join(re.findall(r"```promql\n(.*?)```", text, re.DOTALL)).splitlines():
            if queries and queries[-1].count("(") > queries[-1].count(")"):
                queries[-1] += line
            elif line.strip():
                queries.append(line)
        assert queries, name
        made = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
        groups.append({"name": name, "rules": made})
    (tmp_path / "rules.json").write_text(json.dumps({"groups": groups}))
    run("promtool", "check", "rules", tmp_path / "rules.json")


def test_every_alert_that_is_named_anywhere_exists() -> None:
    suffixes = {".md", ".yaml", ".yml", ".json", ".tpl", ".txt", ".py"}
    paths = [path for path in DEPLOY.rglob("*") if path.suffix in suffixes and path.is_file()]
    for path in (*paths, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        assert set(re.findall(r"\bDataRobot[A-Z]\w+", path.read_text())) <= ALERTS.keys(), path


def thresholds(expression: str) -> str:
    """What comments in an expression name: `> 0.5 # ratio` is `ratio 0.5`."""
    found = re.findall(r"([\d.]+) # (\w+)$", expression, flags=re.MULTILINE)
    return ", ".join(f"{name} {number}" for number, name in found)


def test_the_documented_table_of_alerts_is_that_of_the_rules() -> None:
    """With severity, `for`, and the thresholds that the expression names."""
    link = r"\[(DataRobot\w+)\]\(\.\./deploy/runbooks/\1\.md\)"
    assert re.findall(rf"^\| {link} \| (\w+) \| (\w+) \| (.*?) \| .+ \|$", PAGE, re.MULTILINE) == [
        (name, alert["labels"]["severity"], alert.get("for", "0s"), thresholds(alert["expr"]))
        for name, alert in ALERTS.items()
    ]


def test_one_outage_of_many_accounts_is_one_notification() -> None:
    """Alerts about an API carry its endpoint, by which they are grouped."""
    route = yaml.safe_load(ROUTES.read_text())["route"]
    assert route["group_by"] == ["alertname", "endpoint"]
    assert all("group_by" not in child for child in route["routes"])


def test_the_documented_command_adds_the_links(tmp_path: Path) -> None:
    (command,) = (each for each in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "runbook_url" in each)
    (tmp_path / "rules").mkdir()
    copies = tuple(tmp_path / "rules" / path.name for path in RULES)
    for path, copy in zip(RULES, copies, strict=True):
        copy.write_text(path.read_text())
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True)
    run("promtool", "check", "rules", *copies)
    for path in copies:
        for rule in (rule for rule in rules_of((path,)) if "alert" in rule):
            found = rule["annotations"]
            assert found["runbook_url"] == f"https://wiki.internal/runbooks/{rule['alert']}.md"
            dashboard = f"https://grafana.internal/d/{path.stem}{{{{ with $labels.account }}}}"
            assert found["dashboard_url"].startswith(dashboard)

"""Shell completion of commands, flags and values in bash, zsh and fish."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEADLINE_SECONDS, program


VARIABLE = "_DATAROBOT_EXPORTER_COMPLETE"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    accounts = ", ".join(
        f"{{name: {name}, endpoint: 'http://h', authorization: {{credentials: obviously-fake-token}}}}"
        for name in ("production", "preview", "staging")
    )
    (tmp_path / "config.yaml").write_text(f"accounts: [{accounts}]\n")
    (tmp_path / "broken.yaml").write_text("accounts: [\n")
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DATAROBOT_")}
    return {**clean, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", **more}


def run(arguments: list[str], cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        arguments,
        env=environment(**environ),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.stderr == ""
    return done.stdout


def completed(words: str, directory: Path, **environ: str) -> list[str]:
    """Source the bash script and return the completions of the last word."""
    script = (
        'eval "$(datarobot-exporter completion bash)"\n'
        'read -ra COMP_WORDS <<<"$WORDS"\n'
        '[[ "$WORDS" == *" " ]] && COMP_WORDS+=("")\n'
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
        "complete -p datarobot-exporter >/dev/null\n"
        "_datarobot_exporter_completion datarobot-exporter\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    return run([program("bash"), "-c", script], directory, WORDS=words, **environ).split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("datarobot-exporter ta", ["tasks"]),
        ("datarobot-exporter tasks ", ["delete", "list", "show"]),
        ("datarobot-exporter tasks list --st", ["--status", "--stuck"]),
        (
            "datarobot-exporter tasks list --status ",
            ["initialized", "running", "completed", "error", "aborted", "expired", "unknown"],
        ),
        ("datarobot-exporter tasks list --status err", ["error"]),
        ("datarobot-exporter tasks list --type custommodelb", ["CustomModelBlueprintBuild"]),
        ("datarobot-exporter tasks list --account p", ["production", "preview"]),
        ("datarobot-exporter --config.file config.yaml tasks show --account s", ["staging"]),
        ("datarobot-exporter tasks delete --config.file config.yaml --account s", ["staging"]),
        ("datarobot-exporter --config.file broken.yaml tasks list --account p", []),
        ("datarobot-exporter --config.file missing.yaml tasks list --account p", []),
        ("datarobot-exporter completion ", ["bash", "zsh", "fish"]),
        ("datarobot-exporter tasks list --config.file ", []),
        ("datarobot-exporter tasks list --output ", ["table", "wide", "json", "csv"]),
    ],
)
def test_bash(words: str, offered: list[str], directory: Path) -> None:
    """With an invalid configuration there are no account names, and nothing is printed into the line."""
    assert completed(words, directory) == offered


def test_bash_with_the_file_in_a_variable(directory: Path) -> None:
    (directory / "config.yaml").rename(directory / "other.yaml")
    line = "datarobot-exporter tasks list --account s"
    assert completed(line, directory) == []
    assert completed(line, directory, DATAROBOT_EXPORTER_CONFIG_FILE="other.yaml") == ["staging"]


@pytest.mark.parametrize(
    ("shell", "words", "registers"),
    [
        ("zsh", {"COMP_WORDS": "datarobot-exporter tasks list --st", "COMP_CWORD": "3"}, "compdef"),
        (
            "fish",
            {"COMP_WORDS": "datarobot-exporter tasks list --st", "COMP_CWORD": "--st"},
            "complete --no-files --command datarobot-exporter",
        ),
    ],
)
def test_zsh_and_fish(shell: str, words: dict[str, str], registers: str, directory: Path) -> None:
    """The script registers itself, and its completion request is answered."""
    command = ["datarobot-exporter"]
    assert registers in run([*command, "completion", shell], directory)
    offered = run(command, directory, **{VARIABLE: f"{shell}_complete"}, **words)
    assert "--status" in offered
    assert "--stuck" in offered
    assert "--limit" not in offered

"""Shell completion of commands, flags and values in bash, zsh and fish."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import CommandLine
from conftest import DEADLINE_SECONDS, program
from pseudo_terminal import without_settings


VARIABLE = "_DATAROBOT_EXPORTER_COMPLETE"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    accounts = ", ".join(
        f"{{name: {name}, endpoint: 'http://h', authorization: {{credentials: obviously-fake-token}}}}"
        for name in ("production", "preview", "staging")
    )
    (tmp_path / "good.yaml").write_text(f"accounts: [{accounts}]\n")
    (tmp_path / "broken.yaml").write_text("accounts: [\n")
    monkeypatch.chdir(tmp_path)
    return CommandLine(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ta", "tasks"),
        ("tasks ", "delete list show"),
        ("tasks list --st", "--status --stuck"),
        ("tasks list --status ", "initialized running completed error aborted expired unknown"),
        ("tasks list --status err", "error"),
        ("tasks list --type custommodelb", "CustomModelBlueprintBuild"),
        ("--config.file good.yaml tasks list --account p", "production preview"),
        ("tasks delete --config.file good.yaml --account s", "staging"),
        ("--config.file broken.yaml tasks list --account p", ""),
        ("--config.file missing.yaml tasks list --account p", ""),
        ("completion ", "bash zsh fish"),
        ("tasks list --config.file ", ""),
        ("tasks list --output ", "table wide json csv"),
    ],
)
def test_what_is_offered(run: CommandLine, line: str, offered: str) -> None:
    """With an invalid configuration there are no account names, and nothing is printed into the line."""
    words = f"datarobot-exporter {line}"
    position = str(len(words.split()) - (not words.endswith(" ")))
    status, out, err = run(**{VARIABLE: "bash_complete"}, COMP_WORDS=words, COMP_CWORD=position)
    assert (status, err) == (0, "")
    assert [found.partition(",")[2] for found in out.split()] == offered.split()


def test_zsh_and_fish(run: CommandLine) -> None:
    """The script registers itself, and its completion request is answered."""
    line = "datarobot-exporter tasks list --st"
    for shell, position, registers in (
        ("zsh", "3", "compdef"),
        ("fish", "--st", "complete --no-files --command datarobot-exporter"),
    ):
        assert registers in run("completion", shell).out
        out = run(**{VARIABLE: f"{shell}_complete"}, COMP_WORDS=line, COMP_CWORD=position).out
        assert ["--status" in out, "--stuck" in out, "--limit" in out] == [True, True, False]


@pytest.mark.usefixtures("run")
def test_bash_with_the_file_in_a_variable() -> None:
    script = (
        'eval "$(datarobot-exporter completion bash)"\n'
        "COMP_WORDS=(datarobot-exporter tasks list --account s)\n"
        "COMP_CWORD=4\n"
        "complete -p datarobot-exporter >/dev/null\n"
        "_datarobot_exporter_completion datarobot-exporter\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [program("bash"), "-c", script],
        env={
            **without_settings(os.environ),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DATAROBOT_EXPORTER_CONFIG_FILE": "good.yaml",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_SECONDS,
    )
    assert (done.stdout, done.stderr) == ("staging\n", "")

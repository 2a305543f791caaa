"""Shell completion of commands, flags and values, as bash asks for it.

`test_documented_commands` runs the scripts of all shells.
"""

from pathlib import Path

import pytest
from command_line import CommandLine


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    accounts = ", ".join(
        f"{{name: {name}, endpoint: 'http://h', authorization: {{credentials: obviously-fake-token}}}}"
        for name in ("production", "preview", "staging")
    )
    (tmp_path / "good.yaml").write_text(f"accounts: [{accounts}]\n")
    (tmp_path / "variable.yaml").write_text(f"accounts: [{accounts.replace('staging', 'preprod')}]\n")
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
        ("tasks list --account pre", "preview preprod"),
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
    asked = {"_DATAROBOT_EXPORTER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": position}
    status, out, err = run(**asked, DATAROBOT_EXPORTER_CONFIG_FILE="variable.yaml")
    assert (status, err) == (0, "")
    assert [found.partition(",")[2] for found in out.split()] == offered.split()

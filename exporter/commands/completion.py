"""The command `completion`: print the script that completes commands, flags and values in a shell."""

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete


_SCRIPTS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
_PROGRAM: Final = "datarobot-exporter"


@click.command("completion")
@click.argument("shell", type=click.Choice([*_SCRIPTS]), metavar="bash|zsh|fish")
@click.pass_context
def completion(context: click.Context, /, *, shell: str) -> None:
    """Print a shell completion script.

    \b
    Examples:
      eval "$(datarobot-exporter completion bash)"        # in ~/.bashrc
      eval "$(datarobot-exporter completion zsh)"         # in ~/.zshrc
      datarobot-exporter completion fish | source         # in ~/.config/fish/config.fish
    """  # noqa: D301 click's mark for text that it must not wrap
    variable = f"_{_PROGRAM}_complete".replace("-", "_").upper()
    click.echo(_SCRIPTS[shell](context.find_root().command, {}, _PROGRAM, variable).source())

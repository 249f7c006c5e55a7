"""The command ``completion``: what makes a shell complete the program's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from civitai_pipeline.cli.common import examples

PROGRAM = "civitai-pipeline"
# What click itself looks for when the shell asks for completions.
VARIABLE = "_CIVITAI_PIPELINE_COMPLETE"
SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(epilog=examples("completion bash", "completion fish"))
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    """Print the script that makes a shell complete commands and options.

    For bash and zsh, evaluate it in the file the shell reads when it starts; for fish, write it to its folder of
    completions.
    """
    click.echo(SHELLS[shell](ctx.find_root().command, {}, PROGRAM, VARIABLE).source())

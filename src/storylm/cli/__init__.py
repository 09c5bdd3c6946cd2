"""The command line: one small module per command, registered here. Nothing heavy is imported before a command runs."""

import sys

import typer

from storylm.cli.compare import compare
from storylm.cli.config import config
from storylm.cli.convert import convert
from storylm.cli.demo import demo
from storylm.cli.evaluate import evaluate
from storylm.cli.export import export
from storylm.cli.generate import generate
from storylm.cli.inspect import inspect
from storylm.cli.judge import judge
from storylm.cli.leaderboard import leaderboard
from storylm.cli.plan import plan
from storylm.cli.prepare import prepare
from storylm.cli.presets import presets
from storylm.cli.push import push
from storylm.cli.report import report
from storylm.cli.serve import serve
from storylm.cli.speedrun import speedrun
from storylm.cli.sweep import sweep
from storylm.cli.tokenizer import tokenizer
from storylm.cli.train import train

COMMANDS = (
    demo,
    presets,
    config,
    plan,
    prepare,
    tokenizer,
    train,
    evaluate,
    generate,
    compare,
    leaderboard,
    judge,
    convert,
    export,
    push,
    serve,
    speedrun,
    inspect,
    report,
    sweep,
)

app = typer.Typer(
    name="storylm",
    help="Train, judge and tell stories with small language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # mistakes of ours keep their plain traceback; mistakes of users have none
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        from storylm import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line; exit codes: 2 usage, 3 data, 4 environment, 5 checkpoint, 130 interrupted."""
    exit_code = _exit_code()
    if (joining := sys.modules.get("storylm.training.joining")) is not None:
        joining.leave(exit_code)
    sys.exit(exit_code)


def _exit_code() -> int:
    """Of the command that the arguments name, which is run."""
    from storylm.config.errors import SetupError, UserError

    try:
        app()
    except SystemExit as end:  # how Typer ends, always
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except UserError as error:
        print(f"storylm: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a reader that has gone, as in `storylm generate ... | head -1`, is Click's affair
        if error.filename is None:
            raise
        print(f"storylm: {error.filename}: {error.strerror}", file=sys.stderr)
        return SetupError.exit_code
    except KeyboardInterrupt:
        return 130
    return 0

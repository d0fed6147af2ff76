"""The root of the command `rerank`: each command reads its options, calls one function of the Python API and prints.

Exit status: 0 done; 1 refused or failed, with one line on standard error; 2 wrong usage; 130 interrupted, with what was
finished kept and ranked.
"""

import atexit
import os
import signal
from typing import Annotated, NoReturn

import typer

import rerank
from rerank.cli.command import Group, each_checked
from rerank.cli.console import INTERRUPTED, streams_checked
from rerank.cli.generate import generate
from rerank.cli.names import models, plugins
from rerank.cli.rank import rank
from rerank.cli.report import report
from rerank.cli.research import eval_app, train_app
from rerank.cli.score import score
from rerank.cli.stored import export, show
from rerank.files import check_working_folder
from rerank.threads import wait_passively

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Make N pieces of music for a prompt, score them with a reward model, keep the best with reasons.",
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version, if that is all that is asked; else see that there is a folder to work in."""
    if version:
        typer.echo(f"rerank {rerank.__version__}")
        raise typer.Exit
    check_working_folder()


for _command in (generate, rank, score, show, export, report, models, plugins):
    app.command()(_command)
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")
each_checked(app)


def main() -> None:
    """Run the command line; a request to end, or a terminal that closes, is a Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it is
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    wait_passively()
    try:
        with streams_checked():
            app(prog_name="rerank")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _leave(INTERRUPTED)
        raise


def _leave(status: int) -> NoReturn:
    """End the process with this status, whatever came before.

    Where a Ctrl-C came while Python ran code that was text, as dataclasses are made when a module is imported, Python
    would end itself by that signal instead, though it was caught.
    """
    atexit._run_exitfuncs()
    os._exit(status)

"""How every command reads its arguments and fails: one line, and an exit status."""

import errno
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from rerank.cli.console import INTERRUPTED, say, shown
from rerank.errors import RerankError

_SHORT = {
    errno.EMFILE: "too many files are open; raise the limit, such as: ulimit -n 1024",
    errno.ENFILE: "too many files are open on this machine; close some programs",
    errno.ENOSPC: "the disk is full; free space, also in the folder for temporary files (TMPDIR)",
    errno.EDQUOT: "the quota of the disk is used up; free space, also in the folder for temporary files (TMPDIR)",
    errno.EROFS: "the disk may only be read; choose another place, also for temporary files (TMPDIR)",
    errno.ENOMEM: "there is not enough memory; close some programs, or score fewer and shorter takes",
}
"""What the machine is short of, by the number of the error, and what to do."""


def _shortage(error: OSError | MemoryError) -> str | None:
    """Return what the machine is short of, in words; None where the error says something else."""
    if isinstance(error, MemoryError):
        return _SHORT[errno.ENOMEM]
    # without a file it is standard output that cannot take more, which is told where that is looked after
    printing = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return None if printing else _SHORT.get(error.errno or 0)


class Group(TyperGroup):
    """Turns the errors of `rerank`, and what a machine may be short of, into one line and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RerankError as error:
            say(f"error: {' '.join(str(error).splitlines())}")
            raise typer.Exit(1) from error
        except (OSError, MemoryError) as error:
            short = _shortage(error)
            if short is None:
                raise
            say(f"error: {short}")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            say("error: interrupted; what was written before stays")
            raise typer.Exit(INTERRUPTED) from error
        # wrong usage, whose class is one of typer or of click: versions of typer differ
        except Exception as error:
            if isinstance(told := getattr(error, "message", None), str):
                error.message = shown(told)  # type: ignore[attr-defined]
            raise


class Command(TyperCommand):
    """Refuses an option that is given twice, and says where a text goes that begins with a dash."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        try:
            order = self.make_parser(ctx).parse_args(list(given))[2]
            rest = super().parse_args(ctx, args)
        # wrong usage, whose class is one of typer or of click: versions of typer differ
        except Exception as error:
            _explain_dash(ctx, given, error)
            raise
        if not ctx.resilient_parsing:  # else the line is still being typed
            _refuse_twice(ctx, order)
        return rest


def each_checked(app: typer.Typer) -> typer.Typer:
    """Make every command of an app, and of those inside it, a `Command`."""
    for command in app.registered_commands:
        command.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            each_checked(group.typer_instance)
    return app


def _refuse_twice(ctx: Any, order: Sequence[Any]) -> None:
    """Refuse an option with a value that stands there again, of which the last would silently win."""
    for option, count in Counter(order).items():
        if count > 1 and isinstance(option, TyperOption) and not (option.multiple or option.is_flag):
            ctx.fail(
                f"{max(option.opts, key=len)} is given {'twice' if count == 2 else f'{count} times'}; give it once"
            )


def _explain_dash(ctx: Any, given: Sequence[str], error: Any) -> None:
    """Say how to give a text that was taken for options, where that is what the error comes from.

    `-5 dB techno` is an option that does not exist; `-nice techno` is one whose value is no number.
    """
    unknown = getattr(error, "option_name", None)
    names = [unknown] if unknown else getattr(getattr(error, "param", None), "opts", ())
    short = tuple(name for name in names if name[:2] != "--")
    for text in given[: given.index("--")] if "--" in given else given:
        if text.startswith(short) and (unknown or any(map(str.isspace, text))):
            reason = error.format_message().rstrip(".")
            command = f"{ctx.command_path} [OPTIONS] -- {shlex.quote(text)}"
            ctx.fail(f"{reason}. A text that begins with a dash comes last, after two dashes: {command}")

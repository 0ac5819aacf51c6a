"""A command line: typer's, with one look of help and errors, and one way to start and to end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import textwrap
import threading
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from frame import log, output
from frame.failure import MEANINGS, ExitCode, Failure, Stopped, WrongUse
from frame.version import own_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

WIDTH = 76  # characters of a help page of 80 columns, within click's own indentation
_NAMES = 26  # the widest column of names; a longer name has a line of its own
_SIGNALS = {
    signal.SIGHUP: ExitCode.HUNG_UP,
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
}
_REFUSED = "See that the file, disk or server it speaks of is there, has room and lets you in."


def definitions(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """Lay out names and their meanings in two columns, as a paragraph of an epilog."""
    column = min(max(len(name) for name, _ in rows), _NAMES) + 4
    lines = [f"{title}:"]
    for name, meaning in rows:
        wrapped = textwrap.wrap(meaning, WIDTH - column)
        first = f"  {name}".ljust(column)
        if len(first) > column:
            lines.append(first)
            first = " " * column
        lines += [first + wrapped[0], *(" " * column + line for line in wrapped[1:])]
    return "\b\n" + "\n".join(lines)


def exit_codes(own: Mapping[int, str] | None = None) -> str:
    """Return the paragraph on exit codes; ``own`` says some in the command's own words."""
    usual = {code: MEANINGS[code] for code in (ExitCode.DONE, ExitCode.FAILED, ExitCode.WRONG_USE)}
    told = {**{int(code): text for code, text in usual.items()}, **(own or {})}
    return definitions("Exit codes", [(str(code), told[code]) for code in sorted(told)])


def epilog(*paragraphs: str) -> str:
    """Join paragraphs of :func:`definitions` to what stands below a command's options."""
    return "\n\n".join(paragraphs)


class Application(typer.Typer):
    """A command line with verbs; or, where one function is its only command, without."""

    def __init__(self, name: str, *, help: str = "", epilog: str = "") -> None:
        super().__init__(
            name=name,
            help=help,
            epilog=epilog,
            cls=_Group,
            no_args_is_help=True,
            add_completion=False,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,  # its frames show local variables, passwords among them
        )

    def command(self, name: str | None = None, **how: Any) -> Callable[..., Any]:
        """Add a command; `typer.Typer.command` says how."""
        return super().command(name, **{"cls": _Command, **how})

    def run(self) -> NoReturn:
        """Run the command line of this process and end the process with its exit code.

        A process that ends need not take itself apart object by object, nor wait for threads of a
        library that still retries in vain: all that was written is flushed before.
        """
        _open_streams()
        code: int = ExitCode.FAILED
        try:
            self(prog_name=self.info.name)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else ExitCode.FAILED
        except BaseException as error:  # a fault of ours
            logging.getLogger(__name__).critical("a fault of this program", exc_info=True)
            said = f"{type(error).__name__}: {error}"
            output.print_failure(Failure(said, "Report it, with the lines above."))
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # nobody reads on, which is theirs to decide
                stream.flush()
        os._exit(code)


def _open_streams() -> None:
    """Open standard streams that are closed: else the next file that is opened would be one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as we live


def _print_version(context: typer.Context, given: bool) -> None:
    if given:
        typer.echo(f"{context.find_root().info_name} {own_version()}")
        raise typer.Exit


@cache
def _version_option() -> Any:
    """Return the option as typer makes it from a function's parameter, which alone is public."""

    def holder(
        version: Annotated[
            bool,
            typer.Option(
                "--version", is_eager=True, callback=_print_version, help="Show the version."
            ),
        ] = False,
    ) -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(holder)
    (option,) = get_command(app).params
    option.expose_value = False
    return option


class _Framed:
    """What the outermost command adds: ``--version``, signals, and errors in one look."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        if ctx.parent is not None:
            return params
        return [*params[:-1], _version_option(), *params[-1:]]

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except BrokenPipeError as error:  # typer would take each for our reader's, and say nothing
            if _is_read():
                raise Failure(str(error), _REFUSED) from error
            raise

    def main(
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        output.prepare(words)
        log.configure()
        try:
            with _stopped_by_signals():
                code = super().main(words, standalone_mode=False, **extra)  # type: ignore[misc]
                sys.stdout.flush()  # a result that did not arrive is no success
        except BrokenPipeError:  # nobody reads on, which is theirs to decide
            code = ExitCode.FAILED
        except Failure as failure:
            code = _failed(failure)
        except typer.TyperException as error:
            code = _misused(error)
        except OSError as error:
            code = _failed(Failure(str(error), _REFUSED))
        except Stopped as stopped:
            hint = "Look at what it was doing, and run it again."
            code = _failed(Failure(str(stopped), hint, stopped.exit_code))
        if standalone_mode:
            sys.exit(code or ExitCode.DONE)
        return code


class _Command(_Framed, TyperCommand):  # type: ignore[misc] # typer's signatures are its own
    pass


class _Group(_Framed, TyperGroup):  # type: ignore[misc] # the same
    pass


def _is_read() -> bool:
    """Return whether somebody still reads what this process prints."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        return False
    return True


def _failed(failure: Failure) -> int:
    output.print_failure(failure)
    return failure.exit_code


def _misused(error: typer.TyperException) -> int:
    """Say what typer found wrong with the words of the command line; without any, show the help."""
    context = getattr(error, "ctx", None)
    if context and error.message == context.get_help():
        typer.echo(error.message, err=True)
        return ExitCode.WRONG_USE
    path = context.command_path if context else "the command"
    message = error.format_message().strip().rstrip(".").replace("Value error, ", "")
    return _failed(WrongUse(message[:1].lower() + message[1:], f"See `{path} --help`."))


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn the signals that end a program into :class:`Stopped`, so that clean-up runs.

    It runs to its end, however often one asks. A signal that is ignored stays so (``nohup``).
    """
    stopped = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            return
        stopped = True
        name = signal.Signals(number)
        raise Stopped(f"stopped by {name.name}", _SIGNALS[name])

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, stop)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

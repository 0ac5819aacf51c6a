"""A chain of child processes whose truth is told: no end of stream before all ended well."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Self

from backup.complaints import complaints
from backup.meter import BLOCK_BYTES, EXIT_SECONDS, Meter, widen
from backup.waits import waiting_for
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

TERM_SECONDS = 3  # for pg_dump to cancel its query on the server
STDERR_TAIL = 8192
STDERR_HEAD = 1 << 20  # of a child that ended well

log = get_logger(__name__)


@dataclass(frozen=True)
class Stage:
    """One program of the chain. ``argv`` is world-readable and so never holds a secret.

    ``is_heard``: what it says on its standard error is the stream, and not kept beside it.
    """

    argv: Sequence[str | os.PathLike[str]]
    environment: Mapping[str, str] = field(repr=False)
    is_heard: bool = False

    @property
    def name(self) -> str:
        """The program's name."""
        return os.path.basename(self.argv[0])


class ChildFailed(Failure):
    """Children of the chain did not do their work; ``programs`` are the names of those."""

    def __init__(self, message: str, hint: str, programs: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        self.programs = tuple(programs)


_NO_WORDS = re.compile(r"(DETAIL|CONTEXT|QUERY|LINE \d+):|\[GNUPG:\]|\^$")
_ERROR = re.compile(r"\b(error|ERROR|FATAL|PANIC): ")


def last_words(text: str) -> str:
    """Return the last lines a child wrote, the error among them, and none that shows a row."""
    lines = [line.strip()[:300] for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not _NO_WORDS.match(line)]
    errors = [line for line in lines[:-3] if _ERROR.search(line)]
    shown = lines[-3:]
    if errors and not any(map(_ERROR.search, shown)):
        shown = [errors[-1], *lines[-2:]]
    return " / ".join(shown)


class Pipeline:
    """Children joined by pipes, each in a process group of its own, none outliving the block.

    Their standard errors are kept in memory. Should this process be killed, the broken pipes end
    the children from the last to the first.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        fed: bool = False,
        metered: bool = False,
        look: Callable[[IO[bytes]], None] | None = None,
        sink: IO[bytes] | None = None,
        hint: str,
    ) -> None:
        """Prepare a chain from :meth:`feed` (or nothing) to ``sink`` (or :meth:`readinto`).

        One that is ``metered`` has two stages or more, and counts what the first gives the second;
        ``look`` sees its beginning, as :class:`Meter` says.
        """
        self.stages = stages
        self.fed = fed
        self.metered = metered
        self.look = look
        self.meter: Meter | None = None
        self.sink = sink
        self.hint = hint
        self.children: list[subprocess.Popen[bytes]] = []
        self.errors: list[IO[bytes]] = []
        self.complaints: tuple[str, ...] = ()  # of children that ended well

    def __enter__(self) -> Self:
        try:
            upstream: IO[bytes] | int = subprocess.PIPE if self.fed else subprocess.DEVNULL
            for stage in self.stages:
                upstream = self._start(stage, upstream)
                if self.metered and self.meter is None and not isinstance(upstream, int):
                    self.meter = Meter(upstream, self.look)
                    upstream = self.meter.output
        except BaseException:
            self.close()
            raise
        return self

    def _start(self, stage: Stage, upstream: IO[bytes] | int) -> IO[bytes] | int:
        is_last = stage is self.stages[-1]
        errors = os.fdopen(os.memfd_create(stage.name), "w+b")
        self.errors.append(errors)
        try:
            child = subprocess.Popen(
                stage.argv,
                stdin=upstream,
                stdout=self.sink if is_last and self.sink else subprocess.PIPE,
                stderr=subprocess.STDOUT if stage.is_heard else errors,
                env=stage.environment,
                process_group=0,
                bufsize=0,
            )
        except OSError as error:
            raise ChildFailed(
                f"program {stage.argv[0]} cannot be started: {error.strerror}",
                hint="Install it, or point BACKUP_PG_ROOT at the directory of PostgreSQL's.",
            ) from error
        self.children.append(child)
        # Only the two children may hold a pipe between them, or its end would never be seen.
        if not isinstance(upstream, int):
            upstream.close()
        for pipe in filter(None, (child.stdin, child.stdout)):
            widen(pipe)
        return child.stdout or subprocess.DEVNULL

    def feed(self, blocks: Iterable[bytes]) -> None:
        """Give the first child all ``blocks`` and then its end, in a chain that has a sink.

        A child that takes no more leaves the rest of them; :meth:`finish` tells why.
        """
        stdin = self.children[0].stdin
        assert stdin is not None  # noqa: S101 - a chain that is not fed has no such pipe
        with suppress(BrokenPipeError), stdin:
            for block in blocks:
                rest = memoryview(block)
                while rest:
                    rest = rest[os.write(stdin.fileno(), rest) :]

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of ``buffer`` and return how far, 0 only after all is well.

        Raises :class:`ChildFailed` instead of reporting the end of a stream that is cut short.
        """
        stream = self.children[-1].stdout
        assert stream is not None  # noqa: S101 - a chain with a sink is never read
        with waiting_for(" | ".join(stage.name for stage in self.stages), "its output"):
            count = os.readv(stream.fileno(), [buffer])
        if not count:
            self.finish()
        return count

    def stream(self) -> IO[bytes]:
        """Return what the last child writes as a stream to read from, whose end proves nothing."""
        stream = self.children[-1].stdout
        assert stream is not None  # noqa: S101 - a chain with a sink is never read
        return open(stream.fileno(), "rb", closefd=False)

    def blocks(self) -> Iterator[bytes]:
        """Yield what the last child writes, to an end only once every child ended with 0."""
        block = memoryview(bytearray(BLOCK_BYTES))
        while count := self.readinto(block):
            yield bytes(block[:count])

    def read_all(self) -> bytes:
        """Return all that the last child writes, once every child ended with 0."""
        return b"".join(self.blocks())

    def finish(self) -> None:
        """Wait for every child and raise :class:`ChildFailed` unless each ended with 0."""
        for stage, child in zip(self.stages, self.children, strict=True):
            with waiting_for(stage.name, "its end"), suppress(subprocess.TimeoutExpired):
                child.wait(None if self.sink else EXIT_SECONDS)
        failed = {
            number: f"{stage.name} {self._ending(child)}: "
            f"{last_words(self.stderr(number)) or 'no message'}"
            for number, (stage, child) in enumerate(zip(self.stages, self.children, strict=True))
            if child.returncode != 0
        }
        if not failed and self.meter and self.meter.error:
            failed = {0: f"{self.stages[0].name} was cut short: {self.meter.error.strerror}"}
        if failed:
            programs = [self.stages[number].name for number in failed]
            raise ChildFailed("; ".join(failed.values()), self.hint, programs)
        self._hear_complaints()

    def _hear_complaints(self) -> None:
        if self.complaints:
            return
        for stage, errors in zip(self.stages, self.errors, strict=True):
            errors.seek(0)
            text = errors.read(STDERR_HEAD).decode(errors="replace")
            self.complaints += complaints(stage.name, text)
        for complaint in self.complaints:
            log.warning("a program that ended well complained", said=complaint)

    @property
    def plain_size(self) -> int:
        """The bytes that the first child of a metered chain has given the second so far."""
        return self.meter.count if self.meter else 0

    @staticmethod
    def _ending(child: subprocess.Popen[bytes]) -> str:
        code = child.returncode
        if code is None:
            return "did not end"
        return f"ended with {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"

    def stderr(self, number: int) -> str:
        """Return the tail of what the child ``number`` wrote on its standard error."""
        errors = self.errors[number]
        errors.seek(0, os.SEEK_END)
        errors.seek(max(0, errors.tell() - STDERR_TAIL))
        return errors.read().decode(errors="replace")

    def kill(self) -> None:
        """End every child that still runs: politely, then by force."""
        for force in (signal.SIGTERM, signal.SIGKILL):
            alive = [child for child in self.children if child.poll() is None]
            for child in alive:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, force)
            until = time.monotonic() + TERM_SECONDS
            for child in alive:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(max(0.0, until - time.monotonic()))

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children and let go of what was theirs."""
        self.kill()
        if self.meter:
            self.meter.close()
        for child in self.children:
            for pipe in filter(None, (child.stdin, child.stdout)):
                pipe.close()
        for errors in self.errors:
            errors.close()


def run_tool(
    argv: Sequence[str | os.PathLike[str]],
    environment: Mapping[str, str],
    encoding: str = "utf-8",
    errors: str = "replace",
) -> str:
    """Run one program to its end and return what it wrote on its standard output.

    Raises :class:`ChildFailed` if it does not end with 0.
    """
    hint = "Look at the message of the program."
    with Pipeline([Stage(argv, environment)], hint=hint) as pipeline:
        return pipeline.read_all().decode(encoding, errors)

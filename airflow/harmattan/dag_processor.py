"""The DAG processor, whose parses cannot read its secrets, nor speak for another file.

``python -m harmattan.dag_processor --bundle-name NAME``, with the capabilities SETUID, SETGID and
KILL. Parses are children of :mod:`harmattan.fork_server`. A commit that is live is parsed as a
whole, at once: a file may depend on any other of its bundle.
"""

from __future__ import annotations

import selectors
import sys
import time
from collections import defaultdict
from pathlib import Path
from socket import SHUT_WR, socket, socketpair
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from airflow.cli.commands import dag_processor_command
from airflow.configuration import conf
from airflow.dag_processing import manager
from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager
from airflow.dag_processing.processor import DagFileParsingResult, DagFileProcessorProcess
from airflow.models.dag import DagModel
from airflow.sdk.execution_time.supervisor import ProcessTracker
from sqlalchemy import or_, select, update

from frame.failure import Failure
from harmattan import switched
from harmattan.claims import Holder, own_part, refused
from harmattan.fork_server import BEGUN, CODE, ForkServer, lost
from harmattan.strangers import PARSERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from airflow.callbacks.callback_requests import CallbackRequest
    from sqlalchemy.orm import Session

_SERVED = 1.0  # seconds: Airflow's own longest wait of a round
_AHEAD = 2  # parses asked for, to each user for them: none waits until a result is stored


class ForkedParse(ProcessTracker):
    """A parse at the fork server, as Airflow tracks a process of its own."""

    ProcessNotFound = ProcessLookupError
    TimeoutExpired = TimeoutError

    def __init__(self, own: socket) -> None:
        """Take the parse's ``own`` socket."""
        self._own, self._code = own, None
        self.begun: float | None = None

    def heard(self, own: socket) -> bool:
        """Take that it has begun, or its exit code; raise Failure if the server says neither."""
        message = own.recv(CODE.size)
        if not message:
            raise lost()
        (code,) = CODE.unpack(message)
        if code == BEGUN:
            self.begun = time.monotonic()
            return True
        self._code = code
        return False

    def send_signal(self, s: int) -> None:
        """Kill it, and what it started."""
        if self._code is not None:
            raise ProcessLookupError
        self._own.shutdown(SHUT_WR)

    def wait(self, timeout: float | None) -> int:
        """Return the exit code; raise TimeoutError as long as there is none."""
        if self._code is None:
            raise TimeoutError
        return self._code


class StrangersParse(DagFileProcessorProcess):
    """A parse of one file, or a round of its callbacks, in a child of the fork server."""

    server: ClassVar[ForkServer]
    version: str | None  # of the bundle, when it was started
    path: str
    overdue: str = ""

    @classmethod
    def start(  # type: ignore[override]
        cls,
        *,
        path: str | PathLike[str],
        bundle_path: Path,
        bundle_name: str,
        callbacks: list[CallbackRequest],
        logger: Any,
        **more: Any,
    ) -> StrangersParse:
        """Start it as Airflow's own ``start`` does, by the server and not by a fork."""
        ours, theirs = zip(*(socketpair() for _ in range(4)), strict=True)
        try:
            own = cls.server.parse([each.fileno() for each in theirs])
        finally:
            cls._close_unused_sockets(*theirs)
        requests, stdout, stderr, logs = ours
        tracker = ForkedParse(own)
        parse = cls(
            pid=cls.server.process.pid,  # Airflow prints it, and ends it in the end
            stdin=requests,
            process=tracker,
            process_log=logger,
            start_time=time.monotonic(),
            bundle_name=bundle_name,
            **more,
        )
        parse.path = str(path)
        parse.had_callbacks = bool(callbacks)
        parse._register_pipe_readers(stdout, stderr, requests, logs, data={})
        read, closed = parse.selector.get_key(requests).data
        parse.selector.modify(requests, selectors.EVENT_READ, (_guarded(read), closed))
        parse._open_sockets[own] = "end"
        parse.selector.register(own, selectors.EVENT_READ, (tracker.heard, parse._on_socket_closed))
        parse._on_child_started(callbacks, path, bundle_path, bundle_name)
        return parse

    def stop(self, why: str) -> None:
        """Kill it, for a reason that its file's import error is to give."""
        if not self.overdue:
            self.overdue = why
            self._signal_subprocess(9)  # type: ignore[arg-type]

    @property
    def is_ready(self) -> bool:
        """Return whether it has ended; then a file that said nothing has an import error."""
        ready = DagFileProcessorProcess.is_ready.fget(self)  # type: ignore[attr-defined]
        if ready and self.parsing_result is None and not self.had_callbacks:
            why = self.overdue or f"its process ended with the code {self._exit_code}"
            self.parsing_result = DagFileParsingResult(
                fileloc=self.path,
                serialized_dags=[],
                import_errors={
                    self.dag_file_rel_path: f"{self.dag_file_rel_path}: expected its DAGs, found "
                    f"that {why}\nHINT: Look in the file for what ends, floods or holds up the "
                    "process that imports it; code -9 may be a lack of memory."
                },
            )
        return bool(ready)


def _guarded(read: Callable[[socket], bool]) -> Callable[[socket], bool]:
    """Return ``read``, for which a message in no form of Airflow's is the last one."""

    def guarded(requests: socket) -> bool:
        try:
            return read(requests)
        except OSError:
            raise
        except Exception as error:
            print(f"a parse sent what cannot be read: {error}", file=sys.stderr)
            return False

    return guarded


@attrs.define(kw_only=True)
class BundleManager(DagFileProcessorManager):
    """Airflow's manager, for a bundle that moves as a whole and files that may lie."""

    _parallelism: int = attrs.field(
        factory=lambda: _AHEAD * conf.getint("dag_processor", "parsing_processes"), init=False
    )
    # By file and bundle: the ids that another file has.
    _refused: dict[tuple[str, str], set[str]] = attrs.field(
        factory=lambda: defaultdict(set), init=False
    )

    def _refresh_dag_bundles(self, known_files: dict[str, set[DagFileInfo]]) -> None:
        """Queue every file of a bundle whose version has moved, whatever its own age is."""
        before = dict(self._bundle_versions)
        super()._refresh_dag_bundles(known_files)
        for name, version in self._bundle_versions.items():
            if version != before.get(name):
                files = sorted(known_files[name], key=lambda file: file.rel_path)
                self._add_files_to_queue(files, mode="back")

    def _service_processor_sockets(self, timeout: float | None = 1.0) -> None:
        """Serve parses, and while files wait start the next ones, for a second.

        The rest of a round asks the database, and would do so a few times for each file.
        """
        until = time.monotonic() + _SERVED
        super()._service_processor_sockets(timeout)
        while self._file_queue and (left := until - time.monotonic()) > 0:
            self._collect_results()
            self._start_new_processes()
            super()._service_processor_sockets(left)

    def _create_process(self, dag_file: DagFileInfo) -> DagFileProcessorProcess:
        parse = super()._create_process(dag_file)
        parse.version = self._bundle_versions.get(dag_file.bundle_name)  # type: ignore[attr-defined]
        return parse

    def _kill_timed_out_processors(self) -> None:
        """Stop what takes too long; it ends as others do, with an import error."""
        most = self.processor_timeout
        for parse in self._processors.values():
            begun = parse._process.begun  # type: ignore[attr-defined]
            if begun is not None and time.monotonic() - begun > most:
                parse.stop(f"it took longer than {most:g} s")  # type: ignore[attr-defined]

    def handle_parsing_result(self, file: DagFileInfo, proc: Any, **more: Any) -> None:
        """Keep what the file says of itself, unless its bundle moved while it was read."""
        proc.start_time = proc._process.begun or proc.start_time  # its duration is its own
        if proc.parsing_result and proc.version != self._bundle_versions.get(file.bundle_name):
            self._add_files_to_queue([file], mode="front")
            return
        off = switched.patterns(file.bundle_path) if file.bundle_path else {}
        for dag in proc.parsing_result.serialized_dags if proc.parsing_result else []:
            switched.switch_off(dag.data["dag"], off)
            # Airflow shows what stands there, read with the rights of this process.
            dag.data["dag"]["fileloc"] = str(file.absolute_path)
            dag.data["dag"]["relative_fileloc"] = str(file.rel_path)
        super().handle_parsing_result(file, proc, **more)

    def persist_parsing_result(  # type: ignore[override]
        self,
        *,
        bundle_name: str,
        parsing_result: DagFileParsingResult,
        relative_fileloc: str,
        session: Session,
        **more: Any,
    ) -> None:
        """Store what the file may have (:mod:`harmattan.claims`), and give back what it left."""
        claimed = [dag.dag_id for dag in parsing_result.serialized_dags]
        rows = session.execute(
            select(
                DagModel.dag_id,
                DagModel.bundle_name,
                DagModel.relative_fileloc,
                or_(~DagModel.is_stale, DagModel.has_import_errors.is_(True)),
            ).where(DagModel.dag_id.in_(claimed))
        )
        holders = {dag_id: Holder(bundle, file, keeps) for dag_id, bundle, file, keeps in rows}
        faults = refused(bundle_name, relative_fileloc, claimed, holders)
        own = own_part(relative_fileloc, parsing_result, faults)
        super().persist_parsing_result(
            bundle_name=bundle_name,
            parsing_result=own,
            relative_fileloc=relative_fileloc,
            session=session,
            **more,
        )
        self._refused[bundle_name, relative_fileloc] = set(faults)
        if not parsing_result.import_errors:
            self._give_back(bundle_name, relative_fileloc, claimed, session)

    def _give_back(self, bundle: str, file: str, claimed: list[str], session: Session) -> None:
        """Let go of the ids that the ``file`` had, and parse those again that were refused one."""
        left = session.scalars(
            update(DagModel)
            .where(
                DagModel.bundle_name == bundle,
                DagModel.relative_fileloc == file,
                DagModel.dag_id.not_in(claimed),
                or_(~DagModel.is_stale, DagModel.has_import_errors.is_(True)),
            )
            .values(is_stale=True, has_import_errors=False)
            .returning(DagModel.dag_id)
            .execution_options(synchronize_session=False)
        ).all()
        path = next((each.path for each in self._dag_bundles if each.name == bundle), None)
        waiting = [
            DagFileInfo(rel_path=Path(other), bundle_name=bundle, bundle_path=path)
            for (its, other), ids in self._refused.items()
            if its == bundle and ids.intersection(left)
        ]
        self._add_files_to_queue(waiting, mode="front")


def main() -> None:
    """Run ``airflow dag-processor`` with the arguments given and the classes of this module."""
    from airflow.__main__ import main as airflow

    StrangersParse.server = ForkServer(PARSERS[: conf.getint("dag_processor", "parsing_processes")])
    manager.DagFileProcessorProcess = StrangersParse  # type: ignore[attr-defined]
    dag_processor_command.DagFileProcessorManager = BundleManager  # type: ignore[attr-defined,assignment]
    sys.argv = ["airflow", "dag-processor", *sys.argv[1:]]
    try:
        airflow()
    except Failure as failure:
        sys.exit(f"{failure.message}\nHINT: {failure.hint}")


if __name__ == "__main__":
    main()

"""The drills' reports in the bucket: signed by the drill's own key, and read only if they are."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pydantic import ValidationError

from backup.bucket.download import Damaged
from backup.bucket.layout import SIGNATURE
from backup.bucket.store import open_store
from backup.deadline import threads
from backup.openpgp.signature import NotTrusted, Signed, signer
from backup.proof.page import page
from backup.proof.report import DrillReport
from backup.registry import DRILLS
from backup.settings import B2_RESULTS_KEY, SIGNING_KEY, Settings
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backup.bucket.store import Store
    from backup.bucket.versions import StoredObject
    from backup.openpgp.signature import Signer, Signers

DRILL = "restore-drill"  # whose key signs the reports, among the signers
LOOKED_AT = 100  # the last monthly drill is among them, however many were held by hand since
SHOWN = 24  # earlier drills in the chart: two years
REPORT = ".json"
AT_ONCE = 4  # reports that are read beside each other

log = get_logger(__name__)


@contextmanager
def drill_signer(settings: Settings) -> Iterator[Signer | None]:
    """Yield the key that signs reports, before a drill has begun; None where there is none."""
    with ExitStack() as opened:
        armoured = settings.secret_path(SIGNING_KEY)
        yield opened.enter_context(signer(armoured)) if armoured.exists() else None


def keep_report(
    settings: Settings, store: Store, report: DrillReport, signing: Signer | None, signers: Signers
) -> None:
    """Store the report, its signature and its page, by a key for results if there is one.

    A report that cannot be kept changes no verdict; it is still printed.
    """
    name = _name(settings.prefix, report)
    try:
        with ExitStack() as opened:
            if signing is None:
                log.warning(f"report not kept: no {SIGNING_KEY} to sign it", object=name)
                return
            if settings.secret_path(B2_RESULTS_KEY).exists():
                key = settings.b2_key(B2_RESULTS_KEY)
                results = opened.enter_context(open_store(settings, key))
            elif store.may("writeFiles", name):
                results = store
            else:
                log.warning("report not kept: the key cannot write", object=name)
                return
            data = report.model_dump_json(indent=2).encode()
            signature = signing.sign(data)
            results.put(name + SIGNATURE, signature, content_type="application/pgp-signature")
            results.put(name, data)
            earlier = kept_reports(store, settings.prefix, SHOWN, signers)
            shown = page(report, [each for each in earlier if each.started < report.started])
            html = f"{name.removesuffix(REPORT)}.html"
            results.put(html, shown.encode(), content_type="text/html; charset=utf-8")
    except Failure as error:
        log.warning("report not kept", object=name, error=error.message)
        return
    log.info("report kept", object=name)


def _name(prefix: str, report: DrillReport) -> str:
    return f"{prefix}/{DRILLS}/{report.finished:%Y%m%dT%H%M%SZ}{REPORT}"


def kept_reports(store: Store, prefix: str, count: int, signers: Signers) -> list[DrillReport]:
    """Return the last ``count`` reports that the drill signed, oldest first.

    Those that it did not sign, as none was once, are passed over, and the log says so.
    """
    objects = {stored.name: stored for stored in store.list(f"{prefix}/{DRILLS}")}
    reports = [stored for name, stored in objects.items() if name.endswith(REPORT)]
    reports.sort(key=lambda stored: stored.uploaded, reverse=True)

    def read(stored: StoredObject) -> DrillReport | NotTrusted:
        try:
            signature = objects.get(stored.name + SIGNATURE)
            return _read(store, prefix, stored, signature, signers)
        except NotTrusted as error:
            return error

    kept: list[DrillReport] = []
    passed_over: list[NotTrusted] = []
    with threads(AT_ONCE, "report") as pool:
        while reports and len(kept) < count:
            some = [reports.pop(0) for _ in range(min(len(reports), count - len(kept)))]
            for answer in pool.map(read, some):
                if isinstance(answer, DrillReport):
                    kept.append(answer)
                else:
                    passed_over.append(answer)
    if passed_over:
        log.warning(
            "drill reports passed over", count=len(passed_over), newest=passed_over[0].message
        )
    return sorted(kept, key=lambda report: report.started)


def _read(
    store: Store, prefix: str, stored: StoredObject, signature: StoredObject | None,
    signers: Signers,
) -> DrillReport:  # fmt: skip
    """Return the report ``stored``. Raises :class:`NotTrusted` for what the drill did not sign."""
    what = f"report {stored.name}"
    if signature is None:  # so it need not be read
        raise NotTrusted(f"{what} is not signed", hint="Hold a drill, whose report is signed.")
    try:
        data = store.get(stored.name, stored.file_id)
        detached = store.get(signature.name, signature.file_id)
    except Damaged as error:
        raise NotTrusted(error.message, error.hint) from error
    signers.check(Signed(what, DRILL, data, detached, signature.uploaded_at))
    try:
        report = DrillReport.model_validate_json(data)
    except ValidationError as error:
        raise NotTrusted(
            f"{what} cannot be read by this program", hint="Hold another drill."
        ) from error
    if _name(prefix, report) != stored.name:  # an old one, put where it would be the newest
        raise NotTrusted(
            f"{what} is the one of {report.finished:%Y-%m-%d %H:%M:%S} UTC",
            hint="Somebody moved it; find out who.",
        )
    return report

"""The monthly copies: at each drill of everything one is read, each in its turn.

The drill does it, and not the job that copies: it holds a key that opens dumps, it has the time,
and its report is signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup.proof.report import CopyCheck
from backup.restoration.unpack import verify
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from backup.bucket.catalogue import Catalogue
    from backup.bucket.layout import Backup
    from backup.openpgp.crypt import Keyring
    from backup.registry import Entry

MONTHS = 12

log = get_logger(__name__)


def in_turn(copies: Sequence[Sequence[Backup]], when: datetime) -> Backup | None:
    """Return the copy whose turn it is in the month of ``when``, of ``copies`` a database.

    Each month it is the next database that has any, and when all had their turn, the next copy of
    each. None if there is no copy at all.
    """
    there = [some for some in copies if some]
    if not there:
        return None
    round_, database = divmod(when.year * MONTHS + when.month - 1, len(there))
    return there[database][round_ % len(there[database])]


def check_copy(
    catalogue: Catalogue, ring: Keyring, entries: Sequence[Entry], when: datetime
) -> CopyCheck | None:
    """Download and verify the copy whose turn it is; a fault is a finding and no error."""
    copy = in_turn([catalogue.kept(entry.name) for entry in entries], when)
    if copy is None:
        return None
    finding = None
    try:
        verify(catalogue.store, catalogue.manifest(copy), ring)
    except Failure as error:
        finding = error.message
        log.error("monthly copy is not whole", database=copy.database, id=copy.id, why=finding)
    return CopyCheck(
        database=copy.database,
        backup_id=copy.id,
        object_name=copy.dump.name,
        whole=finding is None,
        finding=finding,
    )

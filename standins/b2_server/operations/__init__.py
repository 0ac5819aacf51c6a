"""The calls of B2's API that take JSON and give JSON, by their names without ``b2_``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import buckets, copies, files, keys, large_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import Json
    from ..fields import Fields
    from ..keys import Key
    from ..service import Service

    Operation = Callable[[Service, Key, Fields], Json]

OPERATIONS: dict[str, Operation] = {
    "cancel_large_file": large_files.cancel,
    "copy_file": copies.copy_file,
    "copy_part": copies.copy_part,
    "create_bucket": buckets.create,
    "create_key": keys.create,
    "delete_bucket": buckets.delete,
    "delete_file_version": files.delete,
    "delete_key": keys.delete,
    "finish_large_file": large_files.finish,
    "get_download_authorization": files.get_download_authorization,
    "get_file_info": files.get_info,
    "get_upload_part_url": large_files.get_upload_part_url,
    "get_upload_url": files.get_upload_url,
    "hide_file": files.hide,
    "list_buckets": buckets.list_all,
    "list_file_names": files.list_names,
    "list_file_versions": files.list_versions,
    "list_keys": keys.list_all,
    "list_parts": large_files.list_parts,
    "list_unfinished_large_files": large_files.list_unfinished,
    "start_large_file": large_files.start,
    "update_bucket": buckets.update,
}

"""Celery's executor, for a broker that may be away and workers that take no orders by broadcast."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.providers.celery.executors.celery_executor import CeleryExecutor
from airflow.providers.celery.executors.celery_executor_utils import ExceptionWithTraceback
from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from kombu.exceptions import OperationalError
from redis.exceptions import NoPermissionError, RedisError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.models.taskinstance import TaskInstance

log = logging.getLogger(__name__)

# What a broker that is away, full or starting ends a try to send with.
_AWAY = (OperationalError, RedisError, AirflowTaskTimeout)


class PatientCeleryExecutor(CeleryExecutor):
    """Sends a task again at the next heartbeat if the broker did not take it.

    The provider's own executor fails such a task at once, which is right only where no worker may
    serve its queue. How long is tried is the scheduler's
    ``task_queued_timeout`` times ``num_stuck_in_queued_retries``. A message expires after that
    timeout (``[celery] extra_celery_config``), when the scheduler sends a new one: a worker that
    comes to an old one throws it away, so no task is in the queue twice.
    """

    def _send_workloads_to_celery(self, workloads: Sequence[Any]) -> list[Any]:
        """Return what became of each workload that the broker took or refused for good.

        The others stay in the executor's queue. The first one shows whether the broker is there:
        each further try would cost the scheduler a second.
        """
        sent: list[Any] = []
        for some in (workloads[:1], workloads[1:]):
            if not some:
                continue
            tried = super()._send_workloads_to_celery(some)
            unsent = [result.exception for _, _, result in tried if _is_unsent(result)]
            sent += [each for each in tried if not _is_unsent(each[2])]
            if unsent:
                log.warning(
                    "%s of %s tasks are sent later: the broker did not take them: %s",
                    len(workloads) - len(sent), len(workloads), unsent[0],
                )  # fmt: skip
                break
        return sent

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Forget a task that was queued for too long; its message expires by itself.

        The provider's executor would tell all workers by broadcast, which no user may.
        """
        self.workloads.pop(ti.key, None)
        super().revoke_task(ti=ti)


def _is_unsent(result: Any) -> bool:
    """Return whether another try may send it: not to a queue that the broker knows nothing of."""
    if not isinstance(result, ExceptionWithTraceback):
        return False
    error = result.exception
    refused = isinstance(error.__cause__ or error, NoPermissionError)
    return isinstance(error, _AWAY) and not refused

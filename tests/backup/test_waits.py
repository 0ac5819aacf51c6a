from __future__ import annotations

import threading
import time

import pytest

from backup.deadline import time_limit
from backup.waits import waiting_for
from frame.failure import Stopped


@pytest.mark.parametrize(
    ("tries", "failure", "told"),
    [
        (0, "", "B2 (b2_upload_part)"),
        (1, "", "B2 (b2_upload_part, 1st try)"),
        (3, "ServiceError", "B2 (b2_upload_part, 3rd try after ServiceError)"),
        (12, "", "B2 (b2_upload_part, 12th try)"),
        (22, "", "B2 (b2_upload_part, 22nd try)"),
    ],
)
def test_what_was_waited_for_longest_is_named(tries: int, failure: str, told: str) -> None:
    ended = threading.Event()

    def wait() -> None:
        with waiting_for("B2", "b2_upload_part", tries) as waiting:
            waiting.failure = failure
            ended.wait(5)

    thread = threading.Thread(target=wait)
    thread.start()
    with pytest.raises(Stopped) as caught, time_limit(0.2), waiting_for("PostgreSQL", "hr"):
        time.sleep(5)
    ended.set()
    thread.join()
    assert str(caught.value) == f"time limit of 0.2 s is over while waiting for {told}"

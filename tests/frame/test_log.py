from __future__ import annotations

import subprocess
import sys

# What each library may say: a token, or a URL with one.
PROGRAM = """
import logging
from frame import log
log.configure()
for name in ("b2sdk", "b2sdk.session", "urllib3", "httpx"):
    logging.getLogger(name).critical("a-token")
logging.getLogger("other").info("chatter")
logging.getLogger("other").warning("a warning")
logging.getLogger("ingest.run").info("rows: %d", 3)
logging.getLogger("other").error("postgresql://u:a-password@h/d is away")
try:
    1 / 0
except ZeroDivisionError:
    log.get_logger("backup.run").exception("it broke", name="hr")
"""


def test_our_events_and_others_warnings_are_told_and_tokens_are_not() -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stderr
    assert "a-token" not in said
    assert "a-password" not in said
    assert "chatter" not in said
    assert "a warning" in said
    assert "rows: 3" in said
    assert "it broke" in said
    assert "name=hr" in said
    assert "ZeroDivisionError: division by zero" in said


def test_the_renderer_is_loaded_at_the_first_line_only() -> None:
    code = (
        "import sys; from frame import log; log.configure();"
        "sys.exit('structlog' in sys.modules or 'rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

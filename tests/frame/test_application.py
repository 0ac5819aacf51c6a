"""The frame: how a command line starts, what it says, and with which exit code it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from frame.application import definitions, exit_codes

ROOT = Path(__file__).resolve().parents[2]
# A command line with verbs that end in every way there is.
PROGRAM = """
import os, signal, sys, time, typer
from typing import Annotated
from frame.application import Application, exit_codes
from frame.failure import ExitCode, Failure, WrongUse
from frame.log import get_logger
from frame.output import AsJson, print_json

app = Application("demo", help="Show how commands end.", epilog=exit_codes())
log = get_logger("backup.demo")

@app.command()
def good(as_json: AsJson = False) -> None:
    log.info("it went well", rows=3)
    if as_json:
        print_json({"rows": 3})

@app.command()
def fail(words: str, as_json: AsJson = False) -> None:
    raise Failure(words, words.capitalize() + ".")

@app.command()
def wrong(as_json: AsJson = False) -> None:
    raise WrongUse("variable DEMO is not set", "Set it.")

@app.command()
def nothing() -> None:
    raise typer.Exit(ExitCode.NOTHING_TO_DO)

@app.command()
def broken(as_json: AsJson = False) -> None:
    raise ZeroDivisionError("ours")

@app.command()
def signalled(number: int) -> None:
    try:
        os.kill(os.getpid(), number)
        time.sleep(20)
    finally:
        print("cleaned up")

@app.command()
def hurried() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        print("cleaned up")

@app.command()
def large() -> None:
    print("x" * 100)

@app.command()
def refused() -> None:
    open("/nowhere/at/all")

@app.command()
def cut_off() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.write(writer, b"to a program that ended")

@app.command()
def threads() -> None:
    import threading
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise Failure("a library still waits", "Do not wait for it.")

app.run()
"""


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def shell(rest: str) -> subprocess.CompletedProcess[str]:
    """Run the program by a shell: ``rest`` is its words, redirections and pipes."""
    return subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -c \"$PROGRAM\" {rest}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PROGRAM": PROGRAM},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_what_went_well_says_so_on_standard_error_and_ends_with_0() -> None:
    done = run("good")
    assert (done.returncode, done.stdout) == (0, "")
    assert re.search(r"info +it went well rows=3$", done.stderr.rstrip().replace("]", ""))


def test_json_is_for_result_and_log_alike() -> None:
    done = run("good", "--json")
    assert json.loads(done.stdout) == {"rows": 3}
    line = json.loads(done.stderr)
    assert (line["event"], line["rows"], line["level"]) == ("it went well", 3, "info")


@pytest.mark.parametrize(
    "words",
    [
        "the disk is full",
        "[/opt/venv/bin/python] is missing",
        "known_hosts: [172.17.0.1]:15022",
        "[bold]not bold",
        "a\\[b] of two\nlines",
    ],
)
def test_an_error_is_the_same_text_in_a_pipe_with_its_hint(words: str) -> None:
    done = run("fail", words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: {words}\nHINT: {words.capitalize()}.\n"


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["colours", "NO_COLOR", "dumb"],
)
def test_an_error_on_a_terminal_is_the_same_text(
    environment: dict[str, str], coloured: bool
) -> None:
    words = [sys.executable, "-c", PROGRAM, "fail", "no such table"]
    terminal = f"import os, pty; os._exit(os.waitstatus_to_exitcode(pty.spawn({words})))"
    shown = subprocess.run(
        [sys.executable, "-c", terminal],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.stdout).replace("\r", "")
    assert plain == "error: no such table\nHINT: No such table.\n"
    assert ("\x1b" in shown.stdout) is coloured
    assert shown.returncode == 1


def test_an_error_is_json_only_if_that_is_asked_for() -> None:
    done = run("fail", "no such table", "--json")
    assert json.loads(done.stderr) == {
        "error": "no such table", "hint": "No such table.", "exit_code": 1
    }  # fmt: skip
    assert done.returncode == 1


@pytest.mark.parametrize("words", [["fly"], ["good", "--fast"], ["fail"], ["signalled", "x"]])
def test_errors_of_the_words_themselves_are_json_too(words: list[str]) -> None:
    done = run(*words, "--json")
    assert json.loads(done.stderr)["exit_code"] == done.returncode == 2


def test_what_only_looks_like_the_option_asks_for_no_json() -> None:
    assert run("fly", "--", "--json").stderr.startswith("error: no such command 'fly'\n")


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert run("fail", "a \x1b[31mred\x07\x9b name").stderr.startswith(
        "error: a \\x1b[31mred\\x07\\x9b name\n"
    )


def test_without_words_the_help_is_shown_as_it_is() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == run("--help").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wrong"], "variable DEMO is not set"),
        (["fail"], "missing argument 'words'"),
        (["fly"], "no such command 'fly'"),
        (["good", "--fast"], "no such option: --fast"),
        (["signalled", "soon"], "invalid value for 'number'"),
    ],
)
def test_wrong_use_ends_with_2_and_a_hint(words: list[str], message: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "\nHINT: " in done.stderr


def test_other_codes_of_the_table_are_a_commands_own() -> None:
    done = run("nothing")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_a_fault_of_the_program_itself_is_not_hidden() -> None:
    done = run("broken")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "\nerror: ZeroDivisionError: ours\nHINT: " in done.stderr
    logged, error = map(json.loads, run("broken", "--json").stderr.splitlines())
    assert "Traceback" in logged["exception"]
    assert error["error"] == "ZeroDivisionError: ours"


def test_what_the_system_refuses_is_one_error() -> None:
    done = run("refused")
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*'/nowhere/at/all'\nHINT: .+\n", done.stderr)


@pytest.mark.parametrize(
    ("words", "streams", "code"),
    [
        ("large", ">/dev/full", 1),
        ("good --json", ">/dev/full", 1),
        ("--help", ">/dev/full", 1),
        ("large", ">&-", 0),
        ("fly", "2>&-", 2),
        ("fly", "2>/dev/full", 2),
        ("fly", "<&- >&- 2>&-", 2),
    ],
)
def test_streams_that_take_nothing_change_no_exit_code_but_of_a_lost_result(
    words: str, streams: str, code: int
) -> None:
    done = shell(f"{words} {streams}")
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=["SIGHUP", "SIGINT", "SIGTERM"],
)
def test_a_signal_ends_the_work_after_its_clean_up(number: signal.Signals, code: int) -> None:
    done = run("signalled", str(int(number)))
    assert (done.returncode, done.stdout) == (code, "cleaned up\n")
    assert done.stderr.startswith(f"error: stopped by {number.name}\nHINT: ")


def test_more_signals_do_not_end_the_clean_up() -> None:
    done = run("hurried")
    assert (done.returncode, done.stdout) == (143, "cleaned up\n")


def test_a_signal_that_is_ignored_stays_so() -> None:
    program = "import signal; signal.signal(15, signal.SIG_IGN)" + PROGRAM.replace(
        "sleep(20)", "sleep(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "signalled", "15"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "cleaned up\n")


def test_a_thread_that_still_waits_keeps_nobody() -> None:
    done = run("threads")
    assert done.returncode == 1
    assert "a library still waits" in done.stderr


def test_a_pipe_to_another_program_that_breaks_is_an_error() -> None:
    done = run("cut-off")
    assert done.returncode == 1
    assert done.stderr.startswith("error: [Errno 32] Broken pipe\nHINT: ")


@pytest.mark.parametrize("words", ["--help", "large"])
def test_nobody_reading_on_is_no_error(words: str) -> None:
    done = shell(f"{words} | true")
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["--version"], ["--version", "good"]])
def test_the_version_is_shown(words: list[str]) -> None:
    done = run(*words, HARMATTAN_VERSION="1.2.3")
    assert (done.returncode, done.stdout) == (0, "demo 1.2.3\n")


def test_help_shows_verbs_and_exit_codes_within_80_columns() -> None:
    done = run("--help", COLUMNS="80")
    assert "  fail" in done.stdout
    assert "  1  failed" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_definitions_keep_their_columns() -> None:
    text = definitions(
        "Settings",
        [
            ("SHORT", "one word after another " * 6),
            ("A_NAME_THAT_IS_LONGER_THAN_ITS_COLUMN", "has a line of its own"),
        ],
    )
    lines = text.removeprefix("\b\n").splitlines()
    assert lines[0] == "Settings:"
    starts = {len(line) - len(line.lstrip()) for line in lines[2:] if not line.startswith("  A_")}
    assert starts == {lines[1].index("one")}
    assert max(map(len, lines)) <= 76


def test_exit_codes_are_told_in_order_and_in_the_commands_own_words() -> None:
    told = exit_codes({4: "nothing can be said", 0: "sound"})
    assert [line.split()[0] for line in told.splitlines()[2:]] == ["0", "1", "2", "4"]
    assert "0  sound" in told


def test_a_program_of_the_house_is_framed() -> None:
    """No other way to start a command line is left in the product."""
    own = [
        path
        for folder in ("airflow/delivery", "backup", "bench", "ingest", "scripts")
        for path in (ROOT / folder).rglob("*.py")
    ]
    others = [path for path in own if re.search(r"^app = typer\.Typer", path.read_text(), re.M)]
    assert others == []

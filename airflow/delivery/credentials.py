"""Credentials in the text of a push: known keys and tokens, and strings that look random.

The forms are detect-secrets' own, read as patterns: its calls that try a key at its server are
never made. What is found is named by kind and line; its value stays out of the finding.

Read are the first MAX_FILE bytes of a file. Binary files hold a NUL and are left out, but for
UTF-16. No line is too long: each pattern looks at a bounded stretch from where it begins.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
import re
from bisect import bisect_right
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.filters import heuristic
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString

from delivery.policies import finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from delivery.verdict import Finding

MAX_FILE = 10 * 1024 * 1024
"""Most bytes that are read of a file."""
MAX_PYTHON = 1024 * 1024
"""Most characters of Python that are parsed, to put its strings together; more is text alone."""
MAX_DEPTH = 200
"""How deep sums of strings are followed."""
MAX_STRING = 64 * 1024
"""Most characters of a string that is put together."""

# detect-secrets' forms: the name of its plugin's kind, what it is called here, and what a text must
# hold for the pattern to be tried. Forms of few letters (a Twilio or Artifactory key) are left out:
# they fit hashes and words.
_PLUGINS = (
    ("AWS Access Key", "an AWS access key", ("AKIA", "ASIA", "ABIA", "ACCA", "A3T")),
    ("Azure Storage Account access key", "an Azure storage key", ("AccountKey=",)),
    ("Discord Bot Token", "a Discord token", (".",)),
    ("GitHub Token", "a GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    ("GitLab Token", "a GitLab token", ("glpat-", "gldt-", "glft-", "glsoat-", "glrt-",
     "GR1348941", "glcbt-", "glimt-", "glptt-", "glagent-", "gloas-")),
    ("Mailchimp Access Key", "a Mailchimp key", ("-us",)),
    ("PyPI Token", "a PyPI token", ("pypi-AgE",)),
    ("SendGrid API Key", "a SendGrid key", ("SG.",)),
    ("Slack Token", "a Slack token", ("xox", "XOX", "hooks.slack.com")),
    ("Square OAuth Secret", "a Square secret", ("sq0csp-",)),
    ("Stripe Access Key", "a Stripe key", ("k_live_",)),
    ("Telegram Bot Token", "a Telegram token", (":AA",)),
)  # fmt: skip
_OWN = (
    ("a JSON web token", re.compile(r"(?<![\w-])eyJ[\w-]{8,2000}\.eyJ[\w-]{8,4000}\.[\w-]{8,2000}"),
     ("eyJ",)),
    ("a GitHub token", re.compile(r"github_pat_\w{60,100}"), ("github_pat_",)),
    ("a Vault token", re.compile(r"(?<![\w.])hv[sbr]\.[\w-]{24,300}"), ("hvs.", "hvb.", "hvr.")),
    ("an npm token", re.compile(r"npm_[A-Za-z0-9]{36}"), ("npm_",)),
    ("a Google API key", re.compile(r"AIza[\w-]{35}"), ("AIza",)),
    # detect-secrets' own pattern looks to the end of a run from each "sk-" in it: quadratic.
    ("an OpenAI key", re.compile(r"(?<![\w-])sk-[\w-]{20,200}T3BlbkFJ[\w-]{20,200}"),
     ("T3BlbkFJ",)),
    ("an Anthropic key", re.compile(r"sk-ant-[\w-]{40,200}"), ("sk-ant-",)),
)  # fmt: skip

_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_PUTTY = re.compile(r"Private-Lines: \d{1,3}\r?\n[A-Za-z0-9+/]{40}")
_PEM_BODY = re.compile(r"[A-Za-z0-9+/]{40}")
_PEM_REACH = 600
_PEM_BASE64 = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/]{60,120}")
_URI = re.compile(
    r"""://([^\s:/@"'<>|\\]{0,100}):([^\s/@"'<>|\\]{1,200})@(\[?[\w:.%{}$-]{1,100})"""
)
_ASSIGNED = re.compile(
    r"""(?:password|passwd|pwd|passphrase|(?<![a-z])pass|secret"""
    r"""|(?:api|auth|access|secret)_?key|token)"""
    r"""(?:\\?["'])?\]?[ \t]{0,5}(?::=|==?|:)[ \t]{0,5}(?:"""
    r"""[bru]{0,2}\\?(["'])(?P<quoted>[^"'\s\\]{8,200})\\?\1"""
    r"""|(?P<bare>[^"'\s\\,;#()]{8,200})[ \t\r]*$"""
    # In a connection's text, as host=… password=… dbname=…
    r"""|(?<==)(?P<between>[^"'\s\\,;#()&]{8,200})(?=[ ;&"']))""",
    re.IGNORECASE | re.MULTILINE,
)
_ASSIGNED_WORDS = ("pass", "pwd", "secret", "api", "auth", "access", "token")
_RUN = re.compile(r"(?<!\\)[A-Za-z0-9+/_-]{32,}")  # the n of \n is none of it
_MEDIA = ("image/", "video/", "audio/", "application/pdf")
_RANDOM = "a long random string"
# How long data goes from line to line, and through the strings of a program or of XML.
_WRAPPED = re.compile(r"(?:\s|\\n|&#10;|[\"'])+")
# A name that says that a value is an id, as a spreadsheet's in its address.
_ID = re.compile(r"""(?:\b|_|[a-z](?=I))id["']?\]?[ \t]{0,5}[:=][ \t]{0,5}["']?$""", re.IGNORECASE)
_SHORTEST = 12  # characters of a string in which a credential may be
_LONGEST_RUN = 512  # longer is data, as an image's base64 is, on one line or many
_LONGEST_PART = 10  # characters: a name of short parts, as Sat_ProdNum_VendNum_UntMsrCd_LDTS
_WIDEST_GAP = 200  # characters between two lines of data
_SEPARATORS = re.compile("[+/_-]")
_WORDS = re.compile(r"[A-Z]?[a-z]{3,}|[A-Z]{5,}|\d{6,}")
_NO_SECRET = re.compile(
    r"\bsha(?:1|224|256|384|512)[-:=][A-Za-z0-9+/_-]+=*"
    r"|-----BEGIN (?:CERTIFICATE|(?:RSA |EC )?PUBLIC KEY|CERTIFICATE REQUEST)-----"
    r"[A-Za-z0-9+/=\s\\\"',]*"
    r"|\b(?:ssh-[a-z0-9]{2,10}|ecdsa-sha2-nistp\d{3}) AAAA[A-Za-z0-9+/]+"
    r"|\bdata:[\w/+.;=-]{0,100};base64,[A-Za-z0-9+/]+"
    r"|\bhttps?://[^\s\"'<>]+"
)
_PLACEHOLDER = re.compile(
    r"example|placeholder|change_?me|redacted|dummy|sample|replace|your|<|>|\$\{|\{|\}|\*\*\*|\.\.\."
    r"|x{4}|0{8}|123456|abcdef|(.)\1{5}|^\$|^%|^!"
    r"|^(?:.*[^a-z])?(?:test|fake|secret|password|passwort"
    r"|passwd|pass|pwd|pw|guest|none|null|token)(?:[^a-z].*)?$",
    re.IGNORECASE,
)
_LOCAL = re.compile(r"^(?:localhost|127\.|\[?::1|0\.0\.0\.0|host\.docker|example\.|.*\.example)")
_ENTROPY = Base64HighEntropyString()
# Measured on 20,000 random strings of each length: one of several thousand has less.
_LEAST_ENTROPY = 3.8
# Of 48 characters one random string in 400 has more that could be words.
_MOST_WORDS = 0.6


def scan(tree: Path, files: Iterable[str]) -> list[Finding]:
    """Return the credentials in ``files``, paths below ``tree``. What cannot be read has none."""
    found = []
    for file in files:
        text = _read(tree / file)
        if text is None:
            continue
        kinds = set(_in_text(text, file))
        named = {line for kind, line in kinds if kind != _RANDOM}
        # The known kinds come first: of a table of others not all are said.
        for kind, line in sorted(kinds, key=lambda each: (each[0] == _RANDOM, each[1], each[0])):
            if kind != _RANDOM or line not in named:
                found.append(finding("credential", file, f"{kind} stands here", line=line))
    return found


def _read(path: Path) -> str | None:
    try:
        if path.is_symlink() or not path.is_file():
            return None
        with path.open("rb") as opened:
            content = opened.read(MAX_FILE)
    except (OSError, ValueError):
        return None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    head = content[:8192]
    if b"\0" not in head:
        return content.decode("utf-8-sig", "replace")
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        # ASCII in UTF-16 without a mark: each second byte is a NUL.
        if head[first::2].count(0) > 0.8 * len(head[first::2]) and not head[1 - first :: 2].count(
            0
        ):
            return content.decode(encoding, "replace")
    return None


def _in_text(text: str, file: str) -> Iterator[tuple[str, int]]:
    suffix = PurePosixPath(file).suffix.lower()
    lock = heuristic.is_lock_file(file) or suffix in {".lock", ".sum"}
    if suffix == ".ipynb" and (pieces := _notebook(text)) is not None:
        for line, piece, code in pieces:
            yield from ((kind, line + more) for kind, more in _strings(piece, code=code, lock=lock))
    else:
        yield from (
            (kind, 1 + more) for kind, more in _strings(text, code=suffix == ".py", lock=lock)
        )


def _strings(text: str, *, code: bool, lock: bool) -> Iterator[tuple[str, int]]:
    """Yield what is in a text and in the strings that it puts together, with lines from 0."""
    lines: set[tuple[str, int]] = set(_kinds(text, lock=lock))
    yield from lines
    if not code or len(text) > MAX_PYTHON:
        return
    strings = [each for each in _constants(text) if len(each[2]) >= _SHORTEST]
    places = [0]
    for *_, string in strings:
        places.append(places[-1] + string.count("\n") + 1)
    for kind, line in set(_kinds("\n".join(string for *_, string in strings), lock=lock)):
        first, last, _ = strings[bisect_right(places, line) - 1]
        if not any((kind, known) in lines for known in range(first, last + 1)):
            yield kind, first


def _kinds(text: str, *, lock: bool) -> Iterator[tuple[str, int]]:
    """Yield the kind of each credential in a text and its line, from 0."""
    starts = [match.end() for match in re.finditer("\n", text)]
    for kind, start in _known(text):
        yield kind, bisect_right(starts, start)
    for kind, start in _named(text):
        yield kind, bisect_right(starts, start)
    if not lock:
        for start in _random_runs(text):
            yield _RANDOM, bisect_right(starts, start)


def _known(text: str) -> Iterator[tuple[str, int]]:
    for kind, patterns, hints in _FORMS:
        if not any(hint in text for hint in hints):
            continue
        for pattern in patterns:
            for match in pattern.finditer(text):
                before = text[match.start() - 1 : match.start()]
                alone = not (before.isascii() and before.isalnum())
                if alone and not _placeholder_key(match.group()):
                    yield kind, match.start()
    if "-----BEGIN " in text:
        for match in _PEM.finditer(text):
            if _PEM_BODY.search(text, match.end(), match.end() + _PEM_REACH):
                yield "a private key", match.start()
    for match in _PUTTY.finditer(text):
        yield "a private key", match.start()
    for match in _PEM_BASE64.finditer(text):
        encoded = match.group()
        try:
            decoded = base64.b64decode(encoded[: len(encoded) // 4 * 4])
        except binascii.Error:
            continue
        if b"PRIVATE KEY-----" in decoded:
            yield "a private key", match.start()


def _placeholder_key(key: str) -> bool:
    return bool(re.search(r"EXAMPLE|[xX]{6}|0{10}|1234567890|(.)\1{7}", key))


def _named(text: str) -> Iterator[tuple[str, int]]:
    """Yield passwords that a URI or the name of a value gives away."""
    for match in _URI.finditer(text):
        login, password, host = match.groups()
        if login == password and "." not in host:
            continue  # as airflow:airflow@postgres: of a container beside, and known to everybody
        if not _PLACEHOLDER.search(password) and not _LOCAL.search(host.lower()):
            yield "a URI with a password", match.start()
    lower = text.lower()
    places = (
        place.start()
        for word in _ASSIGNED_WORDS
        if word in lower
        for place in re.finditer(word, lower)
    )
    for place in places:
        assigned = _ASSIGNED.match(text, place)
        if assigned is None:
            continue
        value = assigned["quoted"] or assigned["bare"] or assigned["between"]
        if _password(value, quoted=assigned["quoted"] is not None):
            yield "a password or key", place


def _password(value: str, *, quoted: bool) -> bool:
    """Return whether a value is more than a word, a name, a path or a call."""
    if _PLACEHOLDER.search(value) or heuristic.is_potential_uuid(value):
        return False
    if not re.search(r"[a-zA-Z]", value) or not re.search(r"\d", value):
        return False
    if "://" in value or value.startswith(("/", "./", "~")):
        return False
    if not quoted and re.search(r"[.\[\]]", value):
        return False
    mixed = re.search(r"[A-Z]", value) and re.search(r"[a-z]", value)
    return bool(mixed or re.search(r"[^\w./:-]", value) or len(value) >= 32)  # noqa: PLR2004


def _random_runs(text: str) -> Iterator[int]:
    """Yield where a string begins that nobody would write: no words, both cases or many digits."""
    passed = _NO_SECRET.finditer(text)
    span = next(passed, None)
    for match in _no_data(text):
        if not _looks_random(match.group()) or _is_said(text, match):
            continue
        while span is not None and span.end() <= match.start():
            span = next(passed, None)
        if span is None or span.start() > match.start():
            yield match.start()


def _no_data(text: str) -> Iterator[re.Match[str]]:
    """Yield the runs that are not data, which is long on one line or on many of one length."""
    block: list[re.Match[str]] = []
    for match in _RUN.finditer(text):
        if block:
            width = len(block[0].group())
            between = text[block[-1].end() : match.start()]
            wrapped = len(between) < _WIDEST_GAP and _WRAPPED.fullmatch(between)
            if not wrapped or len(match.group()) > width or len(block[-1].group()) != width:
                yield from _unless_long(block)
                block = []
        block.append(match)
    yield from _unless_long(block)


def _unless_long(block: list[re.Match[str]]) -> list[re.Match[str]]:
    return block if sum(len(each.group()) for each in block) <= _LONGEST_RUN else []


def _is_said(text: str, match: re.Match[str]) -> bool:
    """Return whether a run is called an id, or is a text in base64 that gives nothing away."""
    before = text[max(0, match.start() - 40) : match.start()]
    if _ID.search(before) and not re.search("secret|key|token|pass", before, re.IGNORECASE):
        return True
    run = match.group()
    try:
        plain = base64.b64decode(run[: len(run) // 4 * 4], validate=True).decode("ascii")
    except ValueError:
        return False
    return plain.isprintable() and not any((*_known(plain), *_named(plain)))


def _looks_random(run: str) -> bool:
    lower, upper = re.search("[a-z]", run), re.search("[A-Z]", run)
    parts = _SEPARATORS.split(run)
    if max(map(len, parts)) < _LONGEST_PART:
        return False
    if sum(map(len, _WORDS.findall(run))) > _MOST_WORDS * sum(map(len, parts)):
        return False
    if _placeholder_key(run) or heuristic.is_sequential_string(run):
        return False
    if lower and upper:
        return _ENTROPY.calculate_shannon_entropy(run) >= _LEAST_ENTROPY
    # In one case alone: not hexadecimal, which a hash is, and no name put together of words.
    changes = len(re.findall(r"(?<=[a-zA-Z])\d|(?<=\d)[a-zA-Z]", run))
    return run.isalnum() and bool(re.search("[g-zG-Z]", run)) and changes > len(run) // 5


def _forms() -> Iterator[tuple[str, tuple[re.Pattern[str], ...], tuple[str, ...]]]:
    plugins: dict[str, Any] = get_mapping_from_secret_type_to_class()
    for name, kind, hints in _PLUGINS:
        yield kind, tuple(plugins[name]().denylist), hints
    for kind, pattern, hints in _OWN:
        yield kind, (pattern,), hints


_FORMS = tuple(_forms())


def _notebook(text: str) -> list[tuple[int, str, bool]] | None:
    """Return a notebook's texts, their first lines, whether they are code; None if it is none.

    Images and other data of outputs are left out. A text that is not found again in the file, as
    it may be escaped in other ways, has the line of the text before it.
    """
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(notebook, dict):
        return None
    starts = [match.end() for match in re.finditer("\n", text)]
    pieces: list[tuple[int, str, bool]] = []
    place, lost = 0, False
    stack: list[tuple[object, bool]] = [(notebook, False)]
    while stack:
        value, code = stack.pop()
        if isinstance(value, dict):
            code = value.get("cell_type") == "code"
            inner = [(each, code and key == "source") for key, each in value.items()
                     if not str(key).startswith(_MEDIA)]  # fmt: skip
            stack += reversed(inner)
        elif isinstance(value, list) and not all(isinstance(each, str) for each in value):
            stack += [(each, code) for each in reversed(value)]
        elif isinstance(value, list | str):
            lines = value if isinstance(value, list) else [value]
            joined = "".join(str(each) for each in lines)
            head = json.dumps(lines[0], ensure_ascii=False) if lines else ""
            if head and not lost:
                there = text.find(head, place)
                lost = there < 0
                place = max(place, there)
            pieces.append((bisect_right(starts, place) + 1, joined, code))
    return pieces


def _constants(code: str) -> Iterator[tuple[int, int, str]]:
    """Yield the constant strings of Python code, put together, with first and last lines.

    Those that stand on a line as they are, are left out: they are read with the text.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    lines = code.encode(errors="replace").split(b"\n")
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.expr) and (string := _folded(node, 0)) is not None:
            if isinstance(node, ast.Constant) and node.lineno == node.end_lineno:
                literal = lines[node.lineno - 1][node.col_offset : node.end_col_offset]
                if string.encode(errors="replace") in literal:
                    continue
            yield node.lineno - 1, (node.end_lineno or node.lineno) - 1, string
        else:
            stack += ast.iter_child_nodes(node)


def _folded(node: ast.AST, depth: int) -> str | None:  # noqa: PLR0911 - one a kind of node
    """Return a string that an expression surely is, with ``{}`` for parts that are not known."""
    if depth > MAX_DEPTH:
        return None
    match node:
        case ast.Constant(value=str() as string):
            return string[:MAX_STRING]
        case ast.Constant(value=bytes() as octets):
            return octets[:MAX_STRING].decode("latin-1")
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            parts = [_folded(left, depth + 1), _folded(right, depth + 1)]
        case ast.BinOp(left=left, op=ast.Mod(), right=right):
            shape = _folded(left, depth + 1)
            values = right.elts if isinstance(right, ast.Tuple) else [right]
            return shape and _formatted(shape, [_folded(each, depth + 1) for each in values])
        case ast.JoinedStr(values=values):
            parts = [_folded(each, depth + 1) or "{}" for each in values]
        case ast.FormattedValue(value=value):
            return _folded(value, depth + 1)
        case ast.Call(func=ast.Attribute(value=between, attr="join"), args=[list_]) if isinstance(
            list_, ast.List | ast.Tuple
        ):
            glue = _folded(between, depth + 1)
            parts = [_folded(each, depth + 1) for each in list_.elts]
            if glue is None or None in parts:
                return None
            return glue.join(part or "" for part in parts)[:MAX_STRING]
        case _:
            return None
    return None if None in parts else "".join(part or "" for part in parts)[:MAX_STRING]


def _formatted(shape: str, values: list[str | None]) -> str:
    left = iter(values)
    return re.sub("%[sr]", lambda _: next(left, None) or "{}", shape)[:MAX_STRING]

"""The errors tuner raises on purpose, and the exit code that each one means.

A failed trial is data (`TrialResult.error`), not an exception. An exception here is
something a person has to act on, so its message says where, which rule and which value, but
never the password in an address.

    TunerError                exit 1
    ├── RefusedError          exit 1   understood and turned down: a gate, a study in use
    ├── UsageError            exit 2   a command line or a study file that cannot be meant
    │   └── SpecError         exit 2   in the study file: file, key, rule, value
    ├── UnavailableError      exit 3   a database, server, device or folder is missing or refuses
    │   └── SupersededError   exit 3   this driver was silent and others took its trials over
    ├── DataError             exit 4   a data set or an image that cannot be used
    └── ModelError            exit 4   a model that cannot be built, loaded or trusted
"""

import os
import re
import signal
from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum
from traceback import TracebackException

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,40})(://?)(\S+)")
"""Bounded, as the names below, so that the time grows with a text's length and not its square."""
_NAMED_BY = ("TUNER_STORAGE_URL", "MLFLOW_TRACKING_URI")
"""Of these addresses libraries speak too, who may cut them at another `@`."""
_SECRET_NAME = "pass|pwd|pw|auth|jwt|otp|token|secret|key|sig|credential"  # noqa: S105
_QUERY = re.compile(r"(?:\w://|\?|/[^\s;]{0,200};)\S+")
"""An address, or what follows a path: a client that fails may tell of that alone."""
_SECRET_IN_QUERY = re.compile(
    rf"([?&;#](?:code|[^=&?#\s]{{0,80}}(?:{_SECRET_NAME})[^=&?#\s]{{0,80}})=)[^&\s]+",
    re.IGNORECASE,
)
_PASSWORD = re.compile(
    r"""(?<!\w)((\w*(?:password|passwd|client_secret))(?:=(?!=)|\s*=\s*(?=['"])))"""
    r"""(?!(?:\*{3}|None|True|False|(?:\w+\.)*\2)(?![^\s&,;)'"]))"""
    r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\S+)""",
    re.IGNORECASE | re.DOTALL,
)
"""In what libpq takes for an address (`host=h password=p`) and alike, but not in a program that
hands a password on (`password=self.password`)."""
_DATABASES = {"postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "sqlite"}
"""In their addresses a name without a password is that of a user, in others it may be a token."""


class ExitCode(IntEnum):
    """What the `tuner` command returns."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNAVAILABLE = 3
    DATA_OR_MODEL = 4
    INTERRUPTED = 130
    TERMINATED = 143


class TunerError(Exception):
    """The root of every error that tuner raises on purpose."""

    exit_code = ExitCode.REFUSED

    def __str__(self) -> str:
        return masked(encodable(super().__str__()))


class RefusedError(TunerError):
    """The request was understood and turned down; nothing was changed."""


class UsageError(TunerError):
    """A command line or a configuration that cannot be meant as written."""

    exit_code = ExitCode.USAGE


class SpecError(UsageError):
    """A study file breaks a rule: `file: key: rule, got value`."""

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


class UnavailableError(TunerError):
    """Something outside the program is missing or refuses."""

    exit_code = ExitCode.UNAVAILABLE


class SupersededError(UnavailableError):
    """This driver was given up by another one and may write no more."""


class DataError(TunerError):
    """A data set or an image that cannot be used as it is."""

    exit_code = ExitCode.DATA_OR_MODEL


class ModelError(TunerError):
    """A model that cannot be built, loaded or trusted."""

    exit_code = ExitCode.DATA_OR_MODEL


def masked(text: str) -> str:
    """The text without the passwords, tokens and keys of the addresses and settings in it.

    A password in an address may hold any character but white space; so what stands before the
    last `@` of an address counts as its user and password, even where that hides more than it
    had to.
    """
    text = _ADDRESS.sub(_masked_address, text)
    for end in _ends_of_passwords():
        text = text.replace(f"{end}@", "***@")
    text = _QUERY.sub(lambda query: _SECRET_IN_QUERY.sub(r"\1***", query[0]), text)
    return _PASSWORD.sub(r"\1***", text)


def _ends_of_passwords() -> list[str]:
    """What a library takes for the beginning of a server's name, of passwords that hold an `@`."""
    addresses = (_ADDRESS.search(os.environ.get(name, "")) for name in _NAMED_BY)
    before = (found[3].rpartition("@")[0] for found in addresses if found)
    return [text[cut.end() :] for text in before for cut in re.finditer("[@/?#]", text)]


def _masked_address(address: re.Match[str]) -> str:
    """The user of a web address with a password may be a token too."""
    scheme, slashes, rest = address.groups()
    before, at, server = rest.rpartition("@")
    user, colon, _ = before.partition(":")
    kind = scheme.lower().partition("+")[0]
    if slashes == ":/" and kind not in _DATABASES:  # a path; of a database it is a slip
        return address[0]
    if colon and not kind.startswith("http"):
        before = f"{user}:***"
    elif at and kind not in _DATABASES and (colon or "/" not in before):
        before = "***"
    return f"{scheme}{slashes}{before}{at}{server}"


def encodable(text: str) -> str:
    r"""The text with an escape for each character that UTF-8 or a database refuses.

    These are lone surrogates, which stand for bytes that are no text (`\udce9`), and NUL (`\x00`).
    """
    return text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode()


def check_text(path: object, remedy: str) -> None:
    """Refuses a path that no database, JSON or URL can hold.

    Raises:
        UsageError: with what to do about it.
    """
    if (text := str(path)) != encodable(text):
        raise UsageError(f"{path}: the path must be text in UTF-8; {remedy}")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Says that `name` is no known `kind`, lists the known ones and names the nearest."""
    names = sorted(known)
    nearest = get_close_matches(name, names, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})"


def said_by(error: OSError) -> str:
    """What the system said, and of which file, in one line."""
    said = error.strerror or str(error) or type(error).__name__
    return masked(f"{error.filename}: {said}" if error.filename else said)


def said_by_code(error: BaseException) -> str:
    """What an exception of the user's code says, whose own text may fail or be anything."""
    return encodable(str(TracebackException.from_exception(error, limit=0)))


def ending_of(code: int) -> str:
    """How a process with this exit code ended, as `subprocess` gives it, and the likely cause."""
    if code >= 0:
        return f"exit status {code}"
    how = f"killed by {signal.Signals(-code).name}"
    if code == -signal.SIGKILL:
        how += ", which is what the kernel does when memory runs out"
    return how

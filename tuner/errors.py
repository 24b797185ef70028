"""The errors that tuner raises on purpose, and their exit codes.

A failed trial is data (`TrialResult.error`), not an exception. These exceptions need an action by
the user. So their messages contain the place, the rule and the value, but never a password.

    TunerError                exit 1
    ├── RefusedError          exit 1   refused: a gate failed, a study is in use
    ├── UsageError            exit 2   invalid command line or study file
    │   └── SpecError         exit 2   in the study file: file, key, rule, value
    ├── UnavailableError      exit 3   a database, server, device or folder is missing or refuses
    │   └── SupersededError   exit 3   other drivers took over this driver's trials
    ├── DataError             exit 4   unusable data set or image
    └── ModelError            exit 4   a model cannot be built, loaded or trusted
"""

import os
import re
import signal
from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum
from traceback import TracebackException

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,40})(://?)(\S+)")
"""Repetitions here and below are bounded, so that the time is linear in the text's length."""
_ADDRESS_VARIABLES = ("TUNER_STORAGE_URL", "MLFLOW_TRACKING_URI")
"""Messages of libraries contain these addresses too, sometimes split at another `@`."""
_SECRET_NAME = "pass|pwd|pw|auth|jwt|otp|token|secret|key|sig|credential"  # noqa: S105
_QUERY = re.compile(r"(?:\w://|\?|/[^\s;]{0,200};)\S+")
"""An address, or the query after a path: some clients report only that."""
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
"""A password in a libpq connection string (`host=h password=p`) or a similar text, but not in
source code (`password=self.password`)."""
_DATABASES = {"postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "sqlite"}
"""A user name without a password is no secret in their addresses; in others it may be a token."""


class ExitCode(IntEnum):
    """The exit codes of the `tuner` command."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNAVAILABLE = 3
    DATA_OR_MODEL = 4
    INTERRUPTED = 130
    TERMINATED = 143


class TunerError(Exception):
    """The base class of all errors that tuner raises on purpose."""

    exit_code = ExitCode.REFUSED

    def __str__(self) -> str:
        return masked(encodable(super().__str__()))


class RefusedError(TunerError):
    """The request is valid but refused; nothing was changed."""


class UsageError(TunerError):
    """An invalid command line or configuration."""

    exit_code = ExitCode.USAGE


class SpecError(UsageError):
    """A study file breaks a rule: `file: key: rule, got value`."""

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


class UnavailableError(TunerError):
    """Something outside the program is missing, does not answer or refuses."""

    exit_code = ExitCode.UNAVAILABLE


class SupersededError(UnavailableError):
    """Another driver took over this driver's trials, so this driver may not write any more."""


class DataError(TunerError):
    """An unusable data set or image."""

    exit_code = ExitCode.DATA_OR_MODEL


class ModelError(TunerError):
    """A model that cannot be built, loaded or trusted."""

    exit_code = ExitCode.DATA_OR_MODEL


def masked(text: str) -> str:
    """Returns the text with the passwords, tokens and keys in it replaced by `***`.

    A password in an address may contain any character except white space. So everything before
    the last `@` of an address counts as user and password, even if this hides more than needed.
    """
    text = _ADDRESS.sub(_masked_address, text)
    for end in _password_ends():
        text = text.replace(f"{end}@", "***@")
    text = _QUERY.sub(lambda query: _SECRET_IN_QUERY.sub(r"\1***", query[0]), text)
    return _PASSWORD.sub(r"\1***", text)


def _password_ends() -> list[str]:
    """The ends of passwords that contain `@`, `/`, `?` or `#`: a library takes them as a host."""
    addresses = (_ADDRESS.search(os.environ.get(name, "")) for name in _ADDRESS_VARIABLES)
    before = (found[3].rpartition("@")[0] for found in addresses if found)
    return [text[cut.end() :] for text in before for cut in re.finditer("[@/?#]", text)]


def _masked_address(address: re.Match[str]) -> str:
    """Masks the password, and in web addresses the user too, which may be a token."""
    scheme, slashes, rest = address.groups()
    before, at, server = rest.rpartition("@")
    user, colon, _ = before.partition(":")
    kind = scheme.lower().partition("+")[0]
    if slashes == ":/" and kind not in _DATABASES:  # a path; for a database it is a typing error
        return address[0]
    if colon and not kind.startswith("http"):
        before = f"{user}:***"
    elif at and kind not in _DATABASES and (colon or "/" not in before):
        before = "***"
    return f"{scheme}{slashes}{before}{at}{server}"


def encodable(text: str) -> str:
    r"""Returns the text with an escape for each character that UTF-8 or a database rejects.

    These are lone surrogates (`\udce9`), which stand for bytes that are not text, and NUL (`\x00`).
    """
    return text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode()


def check_text(path: object, remedy: str) -> None:
    """Checks that a path is valid UTF-8 text, which databases, JSON and URLs need.

    Args:
        path: the path.
        remedy: what the user can do, for the message.

    Raises:
        UsageError: it is not.
    """
    if (text := str(path)) != encodable(text):
        raise UsageError(f"{path}: the path must be text in UTF-8; {remedy}")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Returns the message for an unknown name, with the known names and the most similar one."""
    names = sorted(known)
    nearest = get_close_matches(name, names, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {kind} {name!r}{hint} (known: {', '.join(names) or 'none'})"


def os_error_message(error: OSError) -> str:
    """Returns the file and the system's message of an error, in one line."""
    message = error.strerror or str(error) or type(error).__name__
    return masked(f"{error.filename}: {message}" if error.filename else message)


def user_error_message(error: BaseException) -> str:
    """Returns the message of an exception from user code, whose `__str__` may itself fail."""
    return encodable(str(TracebackException.from_exception(error, limit=0)))


def ending_of(code: int) -> str:
    """Describes how a process ended, with the likely cause; `code` as in `subprocess`."""
    if code >= 0:
        return f"exit status {code}"
    how = f"killed by {signal.Signals(-code).name}"
    if code == -signal.SIGKILL:
        how += ", probably by the kernel because memory ran out"
    return how

"""Formats counts, durations and commands in messages, and text for Markdown."""

import re
import shlex
from collections.abc import Sequence

_MARKUP = re.compile(r"[\\`*\[\]<>|#]|(?<!\w)_|_(?!\w)")
"""The signs that Markdown would not show as they are; it does an underscore inside a word."""


def count(number: int, one: str, many: str = "") -> str:
    """Formats a count with its noun: `1 trial`, `6 trials`, `1,797 images`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def seconds(value: float) -> str:
    """Formats a short duration: `1.5 s` from a second on, two significant digits below."""
    return f"{value:.1f} s" if value >= 1 else f"{value:.2g} s"


def command(name: str, *arguments: str, options: Sequence[str] = (), program: str = "tuner") -> str:
    """Formats a command to be typed, quoted for the shell where that is needed.

    Arguments that begin with a dash stand behind `--`, or else they would be read as options.

    Args:
        name: its name, of one word or two.
        arguments: its arguments.
        options: its options, each followed by its value if it takes one.
        program: the program, quoted already.
    """
    words = [*name.split(), *arguments, *options]
    if any(argument.startswith("-") for argument in arguments):
        words = [*name.split(), *options, "--", *arguments]
    return f"{program} {shlex.join(words)}"


def plain(text: str) -> str:
    """Text of a user's own for Markdown, which is shown as it is, on one line."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))

"""Formats counts, durations and commands in messages, and text for Markdown."""

import re
import shlex

_MARKUP = re.compile(r"[\\`*\[\]<>|#]|(?<!\w)_|_(?!\w)")
"""The signs that Markdown would not show as they are; it does an underscore inside a word."""


def count(number: int, one: str, many: str = "") -> str:
    """Formats a count with its noun: `1 trial`, `6 trials`, `1,797 images`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def seconds(value: float) -> str:
    """Formats a short duration: `1.5 s` from a second on, two significant digits below."""
    return f"{value:.1f} s" if value >= 1 else f"{value:.2g} s"


def command(*words: str, program: str = "tuner") -> str:
    """Formats a command to be typed, quoted for the shell where that is needed.

    Args:
        words: its arguments.
        program: the program, quoted already.
    """
    return f"{program} {shlex.join(words)}"


def plain(text: str) -> str:
    """Text of a user's own for Markdown, which is shown as it is, on one line."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))

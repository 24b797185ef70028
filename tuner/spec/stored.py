"""Which rules a study that is already in the database is free of.

Every limit that a later version adds holds for new study files alone: a study that an earlier one
accepted must still be listed, promoted and deleted.
"""

from typing import Any

from pydantic import ValidationInfo

STORED = "stored"
"""Validation context of a study that comes from the database."""


def is_stored(info: ValidationInfo[Any]) -> bool:
    """Whether what is being validated comes from the database."""
    return bool(info.context == STORED)

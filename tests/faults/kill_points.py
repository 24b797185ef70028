"""The points at which tests kill a process of the program: here, and nowhere else.

A point names a function of the program by import, so renaming the function breaks this module and
the type check. `site/sitecustomize.py` makes the function fatal in the process under test.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from tuner.promotion.registry.versions import crown
from tuner.recording.journal import Journal
from tuner.search.trials import Trials
from tuner.storage.attempts import Ledger, close_attempts
from tuner.storage.code_versions import insert_version
from tuner.storage.studies import Catalog

SITE = Path(__file__).parent / "site"
"""The folder on the PYTHONPATH of a process that is to be killed."""


@dataclass(frozen=True)
class Moment:
    """Before or after the first call of a function."""

    when: Literal["before", "after"]
    function: Callable[..., Any]


class KillPoint(Enum):
    """A point at which a process is killed, by what has just happened or is about to happen."""

    SLOT_CLAIMED = Moment("after", Ledger.claim)
    ROW_OPENED = Moment("after", Trials.open)
    START_RECORDED = Moment("after", Journal.attempt_started)
    ROW_TOLD = Moment("after", Trials.tell)
    END_RECORDED = Moment("after", Journal.attempt_ended)
    ATTEMPT_CLOSED = Moment("after", Ledger.close)
    SLOT_INSERTED = Moment("after", Ledger._insert)
    """Inside a transaction."""
    TAKEOVER_BEGINS = Moment("before", close_attempts)
    """Inside a transaction."""
    TAKEOVER_WRITTEN = Moment("after", close_attempts)
    """Inside a transaction."""
    STUDY_NAMED = Moment("after", Catalog._create_optuna_study)
    """Optuna has the study, and tuner does not."""
    CODE_NOT_STORED = Moment("before", insert_version)
    """Inside the transaction that creates a study."""
    ALIAS_NOT_MOVED = Moment("before", crown)
    """A model is registered, and its alias has not been moved to it."""

    def environment(self, by: signal.Signals = signal.SIGKILL) -> dict[str, str]:
        """The variables that let a process die here, or get another signal."""
        moment = self.value
        path = f"{moment.function.__module__}:{moment.function.__qualname__}"
        return {"FAULT_DIES_AT": f"{path}:{moment.when}:{by.name}"}

"""Orders: whether a driver is to run, pause or stop, and the study's budget."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tuner.errors import UsageError
from tuner.spec.study_spec import Race, StudySpec
from tuner.spec.text.writer import to_stored
from tuner.storage.studies import Catalog, DesiredState

_POLL_S = 1.0
"""How often the database is queried."""


@dataclass(frozen=True)
class Orders:
    """What a driver is to do now."""

    state: DesiredState
    trials: int
    """The study's budget, which may change while it runs."""
    race: Race | None = None
    """If it is a race, its rules, of which the number of seeds may change."""


class Control:
    """Reads the orders of one study's driver. It reads only; the driver acts on them."""

    def __init__(
        self, catalog: Catalog, spec: StudySpec, stopped: Callable[[], bool], code: str
    ) -> None:
        """Reads for a driver that begins with the budget in `spec`.

        Args:
            catalog: the studies of the database.
            spec: the study.
            stopped: whether this process was told to stop.
            code: the digest of the user's code that the driver trains with.
        """
        self._catalog = catalog
        self._study = spec.name
        self._stopped = stopped
        self._code = code
        self._text = to_stored(spec)
        """The stored file whose budget is known."""
        self._polled = float("-inf")
        self._wanted = Orders(DesiredState.RUN, spec.trials, spec.race)
        """What the database said last."""
        self.latest = self._wanted
        """What `poll` returned last."""

    def poll(self) -> Orders:
        """Returns the orders as they are now; those in the database are at most a second old.

        Waits for a database that is away, as `Database.retrying` does.

        Raises:
            UsageError: other code than the driver's was accepted for the study.
        """
        if time.monotonic() - self._polled >= _POLL_S:
            self._polled = time.monotonic()
            self._wanted = self._query()
        self.latest = (
            replace(self._wanted, state=DesiredState.STOP) if self._stopped() else self._wanted
        )
        return self.latest

    def _query(self) -> Orders:
        state, text, code = self._catalog.orders(self._study)
        if text and code != self._code:
            raise UsageError(
                f"study {self._study!r}: other code was accepted for it meanwhile; get that code "
                "and run again"
            )
        if text in ("", self._text):
            return replace(self._wanted, state=state)
        self._text = text
        spec = self._catalog.get(self._study).spec
        return Orders(state, spec.trials, spec.race)

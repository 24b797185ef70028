"""What a driver asks between events: whether to stop or pause, and what the budget is now."""

import time
from collections.abc import Callable

from tuner.errors import UsageError
from tuner.recording.shipping import DriverShipping
from tuner.storage.studies import Catalog, DesiredState

_ASK_DATABASE_S = 1.0
"""How often a driver looks what is wanted of it."""


class Pulse:
    """Asked several times a second; looks after what has to be done now and then."""

    def __init__(
        self,
        catalog: Catalog,
        study: str,
        shipment: DriverShipping,
        stopped: Callable[[], bool],
        look_around: Callable[[], None],
        say: Callable[[str], None],
        trials: int,
        code: str,
    ) -> None:
        """Asks on behalf of the study's driver, whose budget is `trials` so far.

        It trains with the code of that digest.
        """
        self._catalog = catalog
        self._study = study
        self._shipment = shipment
        self._stopped = stopped
        self._look_around = look_around
        self._say = say
        self._asked = 0.0
        self._state = DesiredState.RUN
        self._text = ""
        self._trials = trials
        self._code = code
        self.stopping = False
        """Whether the last answer was to stop."""

    def __call__(self) -> bool:
        """Whether the driver is to stop.

        Raises:
            UsageError: the study goes on with other code than the driver's.
        """
        self._shipment.look()
        self._look_around()
        self._ask()
        self.stopping = self._stopped() or self._state is DesiredState.STOP
        return self.stopping

    def paused(self) -> bool:
        """Whether no other trial is to begin for the time being."""
        return self._state is DesiredState.PAUSE

    def trials(self) -> int:
        """The study's budget, which may be changed while it runs."""
        return self._trials

    def _ask(self) -> None:
        if time.monotonic() - self._asked < _ASK_DATABASE_S:
            return
        self._asked = time.monotonic()
        before, (self._state, text, code) = self._state, self._catalog.orders(self._study)
        if text and code != self._code:
            raise UsageError(
                f"study {self._study!r}: goes on with other code, which someone accepted "
                "meanwhile; get that code and run again"
            )
        if text not in ("", self._text):
            self._text, self._trials = text, self._catalog.get(self._study).spec.trials
        if self._state is before:
            return
        if self._state is DesiredState.PAUSE:
            self._say(f"paused: no trial begins until: tuner resume {self._study}")
        elif before is DesiredState.PAUSE:
            self._say("going on")

"""The other drivers of a study, as one driver sees them: whoever dies is given up."""

import time
from collections.abc import Callable, Iterable

from tuner.home import Home
from tuner.study.database import Database
from tuner.study.journal import Journal
from tuner.study.ledger import Ledger
from tuner.study.members import Member, Members, Watch
from tuner.study.recovery import close_spools, dead_here, give_up
from tuner.words import count

_LONGEST_PAUSE_S = 5.0
"""How long someone who has just come may go unseen."""


class Neighbours:
    """Gives up the dead, so that their trials go on here or with another driver."""

    def __init__(
        self,
        home: Home,
        database: Database,
        study: str,
        journal: Journal,
        say: Callable[[str], None],
        but: str = "",
    ) -> None:
        """Looks at every driver of the study `but` the one of that uid."""
        self._home = home
        self._database = database
        self._study = study
        self._journal = journal
        self._say = say
        self._but = but
        self._members = Members(database, study)
        self._watch = Watch(self._members)
        self._looked = float("-inf")

    def clear_up(self, ledger: Ledger) -> None:
        """Finishes what died in this home or on this machine.

        Whoever calls holds the home's driver lock.
        """
        present = self._members.present()
        self._give_up(dead_here(present, self._home.uid))
        close_spools(self._home, self._study, ledger, self._journal)

    def look(self) -> None:
        """Gives up who has fallen silent; asks the database several times in a lease."""
        now = time.monotonic()
        if now - self._looked >= min(self._watch.pace_s, _LONGEST_PAUSE_S):
            self._looked = now
            self._give_up(self._watch.silent())

    def settle(self, stopped: Callable[[], bool]) -> bool:
        """Waits until every other driver has left, beaten or been given up.

        That takes a lease at most; whether one was given up.
        """
        first: dict[str, int] = {}
        given_up = False
        while not stopped():
            dead = self._watch.silent()
            given_up |= self._give_up(dead)
            present = self._members.present()
            others = [member for member in present if member.uid != self._but]
            if not [m for m in others if first.setdefault(m.uid, m.beats) == m.beats]:
                break
            time.sleep(min(self._watch.pace_s, _LONGEST_PAUSE_S))
        return given_up

    def _give_up(self, dead: Iterable[Member]) -> bool:
        others = [member for member in dead if member.uid != self._but]
        for member in others:
            closed = give_up(self._database, self._study, member)
            for attempt in closed:
                if not self._home.attempt(self._study, attempt.slot, attempt.number).exists():
                    self._journal.attempt_abandoned(
                        attempt.slot, attempt.number, attempt.uid, attempt.outcome
                    )
            if freed := sum(attempt.outcome == "interrupted" for attempt in closed):
                trials = count(freed, "trial")
                self._say(f"took over {trials} of a driver on {member.process.host} that died")
        return bool(others)

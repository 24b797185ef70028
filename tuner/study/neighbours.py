"""The other drivers of a study, as one driver sees them: dead ones are given up."""

import time
from collections.abc import Callable, Iterable

from tuner.home import Home
from tuner.study.database import Database
from tuner.study.journal import Journal
from tuner.study.ledger import Ledger
from tuner.study.leftovers import Closed
from tuner.study.members import Member, Members, Watch
from tuner.study.recovery import close_spools, end_spool, give_up
from tuner.words import count


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
        """Looks at every driver of the study `but` the one of that uid.

        The caller holds the home's driver lock.
        """
        self._home = home
        self._database = database
        self._study = study
        self._journal = journal
        self._say = say
        self._but = but
        self._members = Members(database, study)
        self._watch = Watch(self._members, home=home.uid)
        self._looked = float("-inf")

    def clear_up(self, ledger: Ledger) -> None:
        """Finishes what is known to have died on this machine, and this home's spools of it."""
        self._give_up(member for member in self._members.present() if member.is_gone)
        own = self._members.of_home(self._home.uid)
        close_spools(self._home, self._study, ledger, own, self._journal)

    def look(self) -> None:
        """Gives up who has fallen silent; asks the database several times in a lease."""
        now = time.monotonic()
        if now - self._looked >= self._watch.pace_s:
            self._looked = now
            self._give_up(self._watch.silent())

    def settle(self, stopped: Callable[[], bool], *, of_this_home: bool = False) -> bool:
        """Waits until every other driver has left, beaten or been given up; whether one was.

        That takes a lease at most. With `of_this_home` it waits for drivers of this home alone,
        half a lease at most.
        """
        first: dict[str, int] = {}
        given_up = False
        while not stopped():
            dead = self._watch.silent()
            given_up |= self._give_up(dead)
            present = self._members.present()
            others = [member for member in present if member.uid != self._but]
            if of_this_home:
                others = [member for member in others if member.home == self._home.uid]
            if not [m for m in others if first.setdefault(m.uid, m.beats) == m.beats]:
                break
            time.sleep(self._watch.pace_s)
        return given_up

    def _give_up(self, dead: Iterable[Member]) -> bool:
        others = [member for member in dead if member.uid != self._but]
        for member in others:
            closed = give_up(self._database, self._study, member)
            for attempt in closed:
                self._close(attempt, member)
            if freed := sum(attempt.outcome == "interrupted" for attempt in closed):
                trials = count(freed, "trial")
                self._say(f"took over {trials} of a driver on {member.process.host} that died")
        return bool(others)

    def _close(self, attempt: Closed, member: Member) -> None:
        """Ends an attempt's spool here, which tells of it alone where it was made elsewhere."""
        folder = self._home.attempt(self._study, attempt.slot, attempt.number)
        if folder.exists() and member.home in (self._home.uid, ""):
            end_spool(self._home, self._study, attempt, self._journal)
        else:
            self._journal.attempt_abandoned(
                attempt.slot, attempt.number, attempt.uid, attempt.outcome
            )

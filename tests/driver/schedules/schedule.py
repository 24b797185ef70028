"""What is generated: how large a study is, which driver goes on next, and what befalls it."""

from dataclasses import dataclass
from typing import Literal, get_args

from hypothesis import strategies as st

HOMES = 2
MAX_RETRIES = 1
Fate = Literal[
    "go on",
    "trainer dies",
    "trial fails",
    "kill",
    "kill while it writes",
    "freeze",
    "stop",
    "clock jumps",
    "database is away",
]


@dataclass(frozen=True)
class Step:
    """What a home's driver does next: some events, and then what befalls it."""

    home: int
    events: int
    fate: Fate

    @property
    def fates(self) -> list[Fate]:
        before: list[Fate] = ["go on"] * self.events
        return [*before, self.fate]


@dataclass(frozen=True)
class Schedule:
    """One study and what happens in it."""

    trials: int
    epochs: int
    steps: tuple[Step, ...]


FATES: list[Fate] = list(get_args(Fate))
SIZES = st.sampled_from([1, 1, 1, 1, 2, 3])
"""Of studies, in trials and epochs: nearly all that can go wrong does so in small ones."""
STEPS = st.builds(Step, st.integers(0, HOMES - 1), st.integers(0, 4), st.sampled_from(FATES))
SCHEDULES = st.builds(Schedule, SIZES, SIZES, st.lists(STEPS, max_size=12).map(tuple))
ALL_STOPPED = Schedule(3, 2, (Step(0, 4, "go on"), Step(0, 0, "stop"), Step(1, 1, "stop")))
"""Each driver has been told to stop and has not left when the schedule ends."""

"""The use of a test set: which access a figure is from, and what that means for the figure.

Every model that is scored on the same test rows is another chance for luck. An access to a model
that was scored before shows nothing new.
"""

from tuner.promotion.judging.evidence import HeldOut
from tuner.spec.section import Frozen
from tuner.statistics import expected_largest, wilson_interval

_FIRST_EXPLAINED = 3
"""The first access whose meaning is spelt out."""
_STANDARD_ERRORS = 3.92
"""The width of a 95% interval in standard errors."""


class TestSetUse(Frozen):
    """Which access to test rows scored a model, and how many models had been scored by then."""

    dataset: str
    """The name of the data set."""
    access: int
    """The number of the access to these test rows, from 1, over all studies of the database."""
    models: int
    """How many different models had been scored on these rows, with this one."""
    optimism: float
    """How much too high the best test accuracy of so many models is on average, at most.

    The models count as equally good and are chosen by nothing else. Answers to the same rows
    agree in part, which only makes it less (D. Slepian, Bell System Technical Journal 41 (1962),
    463-501).
    """

    def __str__(self) -> str:
        access = f"access {self.access} to the test images of {self.dataset}"
        if self.access < _FIRST_EXPLAINED:
            return access
        if self.models == 1:
            return f"{access}, each with this model: they have chosen nothing"
        return (
            f"{access}, with {self.models} models so far: if the best of them is kept for its "
            f"test accuracy, that is up to {self.optimism:.4f} too high on average"
        )


def use_of(rows: HeldOut, sha256: str, accuracy: float) -> TestSetUse:
    """The use of the rows by the newest access that scored the model with this file hash.

    Args:
        rows: the test rows; they are not opened.
        sha256: the hash of the model's file.
        accuracy: its test accuracy.
    """
    access = rows.accesses.newest(rows.dataset.digest, sha256)
    assert access is not None, "it has been scored"
    interval = wilson_interval(accuracy, rows.dataset.test_count)
    # Unlike sqrt(p (1 - p) / n), it is not 0 if every answer is right.
    standard_error = (interval.high - interval.low) / _STANDARD_ERRORS
    return TestSetUse(
        dataset=rows.dataset.name,
        access=access.number,
        models=access.models,
        optimism=expected_largest(access.models) * standard_error,
    )

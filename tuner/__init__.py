"""Tunes and tracks Keras image classifiers: a study, its trials, and the promoted model.

The `tuner` command for Python programs:

    import tuner

    summary = tuner.run_study("studies/quickstart.yaml", trials=3)
    with tuner.load_study("quickstart") as study:
        print(study.summary().best)
    tuner.confirm("quickstart")
    report = tuner.promote("quickstart")
"""

TYPE_CHECKING = False  # importing it from typing would delay the handling of Ctrl-C
if TYPE_CHECKING:
    from tuner.api import (
        confirm,
        evaluate,
        load_study,
        looks,
        promote,
        promotion_history,
        registered_models,
        rollback,
        run_study,
        verify,
    )
    from tuner.errors import TunerError

__all__ = [
    "TunerError",
    "confirm",
    "evaluate",
    "load_study",
    "looks",
    "promote",
    "promotion_history",
    "registered_models",
    "rollback",
    "run_study",
    "verify",
]


def __getattr__(name: str) -> object:
    """Imports a name on first use, so that `import tuner` is fast."""
    if name not in __all__:
        raise AttributeError(f"module 'tuner' has no attribute {name!r}")
    from tuner import api, errors

    found: object = getattr(errors if name == "TunerError" else api, name)
    return found

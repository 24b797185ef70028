"""Which registered models a study answers for: written down when promotion registers one."""

from tuner.study.database import Database

_KEY = "registered:"
"""What a study's attributes begin with in Optuna's table that stand for a registration."""


class Registrations:
    """The versions that promotions of one study have registered.

    Each is known by a digest of all that predicting goes by, see `tuner.promotion.registry`.
    """

    def __init__(self, database: Database, study: str) -> None:
        self._storage = database.storage
        self._study = study

    def add(self, digest: str) -> None:
        """Writes a version down; twice is as once."""
        study_id = self._storage.get_study_id_from_name(self._study)
        self._storage.set_study_user_attr(study_id, f"{_KEY}{digest}", value=True)

    def has(self, digest: str) -> bool:
        """Whether the version was written down."""
        study_id = self._storage.get_study_id_from_name(self._study)
        return f"{_KEY}{digest}" in self._storage.get_study_user_attrs(study_id)

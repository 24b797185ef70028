"""One study of a database as a storage for Optuna: what concerns the study, not its rows."""

from collections.abc import Sequence
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from tuner.errors import RefusedError
from tuner.storage.database import Database


class StudyStorage(BaseStorage):
    """Knows its study's number, name and directions by heart, and asks for everything else."""

    def __init__(self, database: Database, study: str) -> None:
        self.database = database
        self._storage = database.storage
        try:
            self.study_id = self._storage.get_study_id_from_name(study)
        except KeyError as error:
            raise RefusedError(f"study {study!r} was deleted just now") from error
        """Optuna's number of the study."""
        self._name = study
        self._directions: list[StudyDirection] | None = None

    def get_study_id_from_name(self, study_name: str) -> int:
        """From memory for this study."""
        if study_name == self._name:
            return self.study_id
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """From memory for this study."""
        if study_id == self.study_id:
            return self._name
        return self._storage.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Read once."""
        if self._directions is None:
            self._directions = self.database.with_retries(
                lambda: self._storage.get_study_directions(study_id)
            )
        return self._directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Read from the database."""
        return self.database.with_retries(lambda: self._storage.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Read from the database; quasi-random sequences count their points here."""
        return self.database.with_retries(lambda: self._storage.get_study_system_attrs(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Written at once."""
        self.database.with_retries(lambda: self._storage.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Written at once."""
        self.database.with_retries(
            lambda: self._storage.set_study_system_attr(study_id, key, value)
        )

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """As the database's storage does."""
        return self._storage.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        """As the database's storage does."""
        self._storage.delete_study(study_id)

    def get_all_studies(self) -> list[Any]:
        """As the database's storage does."""
        return list(self._storage.get_all_studies())

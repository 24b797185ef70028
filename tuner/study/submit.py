"""Hands a study file to whatever workers serve the database."""

from tuner.home import Home
from tuner.study.catalog import Catalog
from tuner.study.opening import open_database
from tuner.study.study_file import StudyFile
from tuner.study.submissions import Submissions


def submit_study(file: StudyFile, home: Home) -> bool:
    """Submits the study, or lets one that has begun go on; whether it is new.

    Its data and its network are first looked at by the worker that begins it, where they are.

    Raises:
        SpecError: the file cannot be run, or differs from the study of that name.
        UnavailableError: the database does not answer.
    """
    file.check()
    with open_database(home) as database:
        if Submissions(database).put(file):
            return True
        catalog = Catalog(database)
        catalog.resume(file.spec, file.source, file.code_path, file.overrides)
        catalog.ask(file.spec.name, "run")
        return False

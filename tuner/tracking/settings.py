"""The tracking settings: which MLflow store runs go to, from the environment or by default.

Imports no MLflow, so that the driver and the command line may read it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from tuner.errors import UsageError, masked

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class TrackingSettings:
    """The MLflow store that a study's runs go to."""

    uri: str = field(repr=False)
    """A server's address or a database URL. It may contain a password, so show `shown_uri`."""
    artifact_root: str
    """The folder for artifacts; empty if a server decides."""
    experiment: str

    @classmethod
    def from_environment(cls, home: Path, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME`.

        The defaults are `home/mlflow.db` with `home/mlartifacts`, and the experiment `tuner`.

        Raises:
            UsageError: the address is neither a server's nor a database's.
        """
        home = home.resolve()
        uri = environment.get("MLFLOW_TRACKING_URI", "").strip() or sqlite_url(home / "mlflow.db")
        experiment = environment.get("MLFLOW_EXPERIMENT_NAME", "").strip() or "tuner"
        root = "" if is_server(uri) else str(home / "mlartifacts")
        if not (is_server(uri) or _is_database(uri)):
            raise UsageError(
                "MLFLOW_TRACKING_URI: must be a server's address (http://...) or a database URL "
                f"(sqlite:///..., postgresql://...), got {uri!r}"
            )
        return cls(uri, root, experiment)

    @property
    def is_local(self) -> bool:
        """Whether the store is a SQLite file without a server."""
        return urlsplit(self.uri).scheme.startswith("sqlite")

    @property
    def is_absent(self) -> bool:
        """Whether the store is a file that does not exist yet."""
        file = sqlite_file(self.uri) if self.is_local else None
        return file is not None and not file.exists()

    @property
    def is_in_home(self) -> bool:
        """Whether the store is beside the folder of its artifacts, which is the default."""
        beside = sqlite_url(Path(self.artifact_root).parent / "mlflow.db")
        return bool(self.artifact_root) and self.uri == beside

    def misplaced(self, location: str) -> str:
        """The former place of a moved state folder, to which artifacts would still go; else empty.

        Args:
            location: the experiment's artifact location. One outside the state folder is right.
        """
        found, right = local_path(location), Path(self.artifact_root)
        if not self.is_in_home or found is None:
            return ""
        is_right = found.resolve() == right or (
            found.exists() and right.exists() and found.samefile(right)  # mounted twice
        )
        return "" if found.name != right.name or is_right else str(found)

    @property
    def server_url(self) -> str | None:
        """The address of the MLflow server; None if there is none."""
        return self.uri if is_server(self.uri) else None

    @property
    def shown_uri(self) -> str:
        """The address with its password masked."""
        return masked(self.uri)


def sqlite_url(file: Path) -> str:
    """The address of a SQLite database with any characters in its path.

    If a character must be quoted, the address names the driver too: MLflow creates the folder of a
    path after `sqlite://` without unquoting it.
    """
    from sqlalchemy import URL  # not needed by commands that use a server

    plain = URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)
    if plain == f"sqlite:///{file}":
        return plain
    return plain.replace("sqlite:", "sqlite+pysqlite:", 1)


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database; None for any other address."""
    from sqlalchemy import make_url

    url = make_url(uri)
    named = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if named else None


def local_path(uri: str) -> Path | None:
    """The local folder or file at an MLflow address; None if it is not on this machine."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path if parts.scheme else uri))


def is_server(uri: str) -> bool:
    """Whether it is the address of an MLflow server, not of a database."""
    return urlsplit(uri).scheme in ("http", "https")


def _is_database(uri: str) -> bool:
    return urlsplit(uri).scheme.partition("+")[0] in _DATABASES


def prepare_mlflow_environment() -> None:
    """Sets variables that MLflow reads when it is imported.

    MLflow must not repeat a request by itself: a create-run whose answer was lost would make a
    second run. The caller repeats it after a search for the run. A time-out that the environment
    states is kept.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # if git is not installed

"""Arguments and options that several commands share."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.errors import UsageError

if TYPE_CHECKING:
    from tuner.spec.study_spec import AutoOrCount
    from tuner.workers.cluster import Cluster


class Platform(StrEnum):
    """Where trainers can run other than on this machine."""

    RAY = "ray"


StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="The study's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Workers = Annotated[str | None, typer.Option(help="The number of trainers, or auto.")]
On = Annotated[
    Platform | None, typer.Option(help="Where trainers run; on this machine by default.")
]
Address = Annotated[
    str | None, typer.Option(help="The Ray cluster, HOST:PORT; RAY_ADDRESS by default.")
]
NumCpus = Annotated[float, typer.Option(min=0, help="With --on ray: cores of each trainer.")]
NumGpus = Annotated[
    float | None,
    typer.Option(min=0, help="With --on ray: GPUs of each trainer; may be a fraction."),
]


def workers_of(stated: str | None) -> "AutoOrCount | None":
    """Returns the number of trainers that `--workers` states.

    Raises:
        SpecError: it is neither `auto` nor a whole number of at least 1.
    """
    if stated is None:
        return None
    from tuner.spec.study_spec import checked_workers

    try:
        return checked_workers(int(stated))
    except ValueError:  # no number, or one of too many digits for Python
        return checked_workers(stated)


def cluster_of(
    on: Platform | None, address: str | None, num_cpus: float, num_gpus: float | None
) -> "Cluster | None":
    """Returns the cluster that the options name; None for this machine.

    Raises:
        UsageError: there are options of a cluster without `--on`, or amounts that Ray cannot give.
    """
    if on is None:
        if address or num_gpus is not None or num_cpus != 1.0:
            raise UsageError("--address, --num-cpus and --num-gpus: require --on ray")
        return None
    from tuner.workers.cluster import Cluster

    return Cluster(address, num_cpus, num_gpus)

"""Starts the trainers of one driver, and decides their number, devices and precision.

`workers: auto` and `precision: auto` are decided by measuring the study's own network and data.
"""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from tuner.driver.packing import MeasuredPacking, Memory, Packings, fastest
from tuner.driver.plans import Planner
from tuner.errors import ModelError
from tuner.home import Home
from tuner.spec.study_spec import AutoOrCount, StudySpec
from tuner.training.plan import Precision
from tuner.training.timing import EpochTimes
from tuner.words import count, seconds
from tuner.workers.cluster import Cluster
from tuner.workers.devices import Device, layout, layouts, usable_cores, visible_gpus
from tuner.workers.handle_pool import HandlePool
from tuner.workers.local_pool import LocalPool

_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
_WORTH_PACKING_S = 900.0
"""Shorter studies try no other packing, since each try takes half a minute."""


class Trainers:
    """The trainers of one driver. They load while the driver prepares the data."""

    def __init__(
        self,
        home: Home,
        spec: StudySpec,
        workers: AutoOrCount,
        cluster: Cluster | None,
        stack: ExitStack,
        say: Callable[[str], None],
    ) -> None:
        """Starts the first pool, on this machine or on a cluster.

        Args:
            home: keeps the trainers' logs and earlier measurements.
            spec: the study.
            workers: how many trainers.
            cluster: the Ray cluster; None for this machine.
            stack: closes the pools.
            say: receives messages for people.

        Raises:
            UnavailableError: there are fewer devices than `workers`, or no cluster answers.
        """
        self._home = home
        self._spec = spec
        self._workers = workers
        self._stack = stack
        self._say = say
        self._packings = Packings(Memory(home.packings))
        self._precisions = Memory(home.precisions) if cluster is None else None
        """None on a cluster, whose machines may differ."""
        self._others: list[tuple[Device, ...]] = []
        self.pool: HandlePool
        if cluster is not None:
            self.pool = self._started_on(cluster)
            return
        first, *self._others = self._layouts()
        self.pool = self._started(first)

    def decide(self, planner: Planner, epochs: int) -> tuple[Planner, MeasuredPacking]:
        """Measures an epoch, and decides the precision and, for a long study, the packing.

        Args:
            planner: has the study's precision, or float32 while `auto` is undecided.
            epochs: how many are left to train, at most.

        Returns:
            The planner with the decided precision, and the measured packing.

        Raises:
            DataError: the rows cannot be split as the study says.
            ModelError: no typical network can be built.
            UnavailableError: no trainer could start, or one died.
        """
        self._say("measuring an epoch")
        planner, packed = self._in_its_precision(planner)
        if self._others and packed.seconds(epochs) > _WORTH_PACKING_S:
            packed = self._repacked(packed)
        return planner, packed

    def _layouts(self) -> list[tuple[Device, ...]]:
        """The layouts to try: one if the study states it or it was measured before."""
        if self._workers != "auto":
            return [layout(self._workers, self._spec.slots)]
        choice = layouts(self._spec.slots)
        fastest_before = self._packings.trainers(self._workload())
        return [each for each in choice if len(each) == fastest_before] or choice

    def _started(self, devices: Sequence[Device]) -> LocalPool:
        self._say(_starting(len(devices)))
        pool = LocalPool(devices, self._home.trainer_logs(self._spec.name), self._spec.backend)
        return self._stack.enter_context(closing(pool))

    def _started_on(self, cluster: Cluster) -> HandlePool:
        pool = cluster.pool(self._workers, self._spec.slots, self._spec.backend)
        self._say(f"{_starting(pool.size)} on the Ray cluster, each where there is room")
        return self._stack.enter_context(closing(pool))

    def _in_its_precision(self, planner: Planner) -> tuple[Planner, MeasuredPacking]:
        if self._spec.precision != "auto":
            times = self._epoch_times(planner, [planner.precision])
            return planner, MeasuredPacking(self.pool, times.epoch_s)
        workload = f"data {planner.dataset.digest} with {self._machine()}"
        known = _known(self._precisions.recall(workload)) if self._precisions else {}
        chosen = {network: each.precision for network, each in known.items()}
        times = self._epoch_times(planner, _PRECISIONS, chosen)
        decisive = self._first_measured(workload, times)
        planner = replace(planner, precision=decisive.precision, measured=decisive)
        if len(decisive.rounds) > 1:
            told = ", ".join(
                f"{each} {seconds(decisive.seconds(each))}" for each in decisive.rounds
            )
            when = "" if decisive == times else "measured before: "
            self._say(f"training in {decisive.precision} ({when}an epoch takes {told})")
        return planner, MeasuredPacking(self.pool, times.epoch_s)

    def _first_measured(self, workload: str, times: EpochTimes) -> EpochTimes:
        """The first measurement of this network on this machine, which may be `times`."""
        if self._precisions is None:
            return times

        def added(kept: Mapping[str, Any]) -> dict[str, Any]:
            first = {times.network: times, **_known(kept)}
            return {network: dict(each.rounds) for network, each in first.items()}

        return _known(self._precisions.change(workload, added))[times.network]

    def _epoch_times(
        self,
        planner: Planner,
        precisions: Sequence[Precision],
        chosen: Mapping[str, Precision] | None = None,
    ) -> EpochTimes:
        """Measures the first typical network that can be built.

        Raises:
            ModelError: none can be built; this is the first network's error.
        """
        first: ModelError | None = None
        for plan in planner.typical():
            try:
                times = self.pool.epoch_times(plan, precisions, chosen or {})
            except ModelError as error:
                first = first or error
            else:
                self._typical = plan
                return times
        assert first is not None, "every study has a point"
        raise first

    def _repacked(self, packed: MeasuredPacking) -> MeasuredPacking:
        """Tries the other layouts, and remembers the result for later studies."""
        best, paces = fastest(packed, self._others, self._started, self._typical)
        self._packings.keep(self._workload(), paces)
        told = ", ".join(f"{count} reach {paces[count]:.2f}" for count in sorted(paces))
        self._say(f"trainers: {best.pool.size} (epochs a second: {told})")
        return best

    def _workload(self) -> str:
        """The key of a packing: everything that the fastest one depends on."""
        return f"{self._spec.model} on {self._spec.dataset.name} with {self._machine()}"

    def _machine(self) -> str:
        cores, gpus = len(usable_cores()), len(visible_gpus(os.environ))
        return f"{self._spec.backend}, {socket.gethostname()}: {cores} cores, {gpus} GPUs"


def _known(remembered: Mapping[str, Any]) -> dict[str, EpochTimes]:
    """The valid measurements. Those of another version's format are measured again."""
    known = {}
    for network, rounds in remembered.items():
        with suppress(ValidationError):
            known[network] = EpochTimes(network=network, rounds=rounds)
    return known


def _starting(trainers: int) -> str:
    return f"starting {count(trainers, 'trainer')}"

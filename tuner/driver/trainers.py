"""The trainers of one driver: how many, on which devices and in which precision.

What the study leaves open (`workers: auto`, `precision: auto`) is measured on its own network
and data.
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
"""A shorter study would not win back what trying other packings costs, half a minute each."""


class Trainers:
    """Starts the trainers at once, so that they load while other things are prepared."""

    def __init__(
        self,
        home: Home,
        spec: StudySpec,
        workers: AutoOrCount,
        cluster: Cluster | None,
        stack: ExitStack,
        say: Callable[[str], None],
    ) -> None:
        """Starts the first pool, here or on a cluster; what is started is closed with `stack`.

        Raises:
            UnavailableError: more workers are asked for than there are devices, or the cluster
                cannot be had.
        """
        self._home = home
        self._spec = spec
        self._workers = workers
        self._stack = stack
        self._say = say
        self._packings = Packings(Memory(home.packings))
        self._precisions = Memory(home.precisions) if cluster is None else None
        """None where other machines train: they may differ from this one and each other."""
        self._others: list[tuple[Device, ...]] = []
        self.pool: HandlePool
        if cluster is not None:
            self.pool = self._started_on(cluster)
            return
        first, *self._others = self._layouts()
        self.pool = self._started(first)

    def settle(self, planner: Planner, epochs: int) -> tuple[Planner, MeasuredPacking]:
        """Measures an epoch; decides on the precision and, before a long study, on the packing.

        Args:
            planner: its precision is the study's, or float32 where that is open.
            epochs: how many are left to train, at most.
        """
        self._say("measuring an epoch")
        planner, packed = self._in_its_precision(planner)
        if self._others and packed.seconds(epochs) > _WORTH_PACKING_S:
            packed = self._repacked(packed)
        return planner, packed

    def _layouts(self) -> list[tuple[Device, ...]]:
        """How trainers may be laid out; several where none has proved the fastest yet."""
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
        """What was measured first of the network on this machine; these times where nothing was."""
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
        """Measures the first typical network that can be built; the others fail in their trials.

        Raises:
            ModelError: none can be built; the first one's.
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
        assert first is not None, "there is a point"
        raise first

    def _repacked(self, packed: MeasuredPacking) -> MeasuredPacking:
        """Tries what else the machine offers, once: the next study remembers."""
        best, paces = fastest(packed, self._others, self._started, self._typical)
        self._packings.keep(self._workload(), paces)
        told = ", ".join(f"{count} reach {paces[count]:.2f}" for count in sorted(paces))
        self._say(f"trainers: {best.pool.size} (epochs a second: {told})")
        return best

    def _workload(self) -> str:
        """What the fastest packing depends on."""
        return f"{self._spec.model} on {self._spec.dataset.name} with {self._machine()}"

    def _machine(self) -> str:
        cores, gpus = len(usable_cores()), len(visible_gpus(os.environ))
        return f"{self._spec.backend}, {socket.gethostname()}: {cores} cores, {gpus} GPUs"


def _known(remembered: Mapping[str, Any]) -> dict[str, EpochTimes]:
    """What another version has written in another form is measured anew."""
    known = {}
    for network, rounds in remembered.items():
        with suppress(ValidationError):
            known[network] = EpochTimes(network=network, rounds=rounds)
    return known


def _starting(trainers: int) -> str:
    return f"starting {count(trainers, 'trainer')}"

"""Ships all spools of one study folder to MLflow, the parent's first.

Several attempts go to a server at a time. The attempts of one slot go one after another, since a
later one contains the run id of the one before.
"""

import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tuner.errors import RefusedError, UnavailableError
from tuner.tracking.mlflow.experiments import ExperimentError
from tuner.tracking.mlflow.mlflow_store import MlflowStore
from tuner.tracking.runs.figures import Figure
from tuner.tracking.runs.run_update import RunOpening
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping.lanes import Lanes
from tuner.tracking.shipping.spool_shipment import SpoolShipment
from tuner.tracking.spool.shipped import Survey, survey
from tuner.tracking.spool.shipping_lock import ShippingLock
from tuner.tracking.spool.spool import parent_folder, slot_of, spool_folders

_LOOK_S = 1.0
"""Seconds between two searches for new spools."""

_LOOK_BACK_S = 10.0
"""Seconds between two looks at spools of ended attempts, whose model may be displaced."""

_LANES = 4
"""How many attempts go to a server at once. A SQLite file has one writer."""

_GROUP = 8
"""How many slots are prepared together: one query to MLflow finds their runs, and their figures are
drawn meanwhile."""

_logger = logging.getLogger(__name__)


class StudyShipper:
    """Ships the spools of `folder`, if this shipper gets the lock.

    Args:
        folder: the study's folder.
        settings: the store.
        go_on: called before each step; False ends the shipping early.
        begin: begins to draw a figure. By default figures are drawn when they are sent.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrackingSettings,
        go_on: Callable[[], bool],
        begin: Callable[[Figure], Figure] = lambda figure: figure,
    ) -> None:
        self._folder = folder
        self._begin = begin
        self._settings = settings
        self._lock = ShippingLock(folder)
        self._lanes = Lanes(1 if settings.is_local else _LANES)
        self._wanted = go_on
        self._store: MlflowStore | None = None
        self._shipments: dict[Path, SpoolShipment] = {}
        self._looked_at: list[SpoolShipment] = []
        self._look_at = self._look_back_at = 0.0
        self._held_up: set[Path] = set()
        self._made: deque[tuple[SpoolShipment, RunOpening]] = deque()
        """Shipments whose run was made and ended: another shipper may have made it too."""
        self._flows = True
        """Whether the last spool could be shipped without waiting for anything."""
        self._waited = False
        """Whether attempts waited for the study's run the last time."""

    def ship(self, *, finishing: bool = False) -> int:
        """Ships new events, unless another shipper is at work. Returns their number.

        Args:
            finishing: whether the driver is gone, so that figures are drawn now.

        Raises:
            UnavailableError: MLflow does not answer.
            ExperimentError: a person must repair the experiment first.
        """
        if not self._lock.take():
            return 0
        store = self._store = self._store or self._open_store()
        self._look(store, finishing)
        store.forget_found()
        parents, attempts = self._slots()
        shipped = self._ship_all(parents, store, finishing)
        spools = self._in_order(attempts, store, finishing)
        shipped += self._lanes.run(partial(self._ship_all, s, store, finishing) for s in spools)
        self._leave_doubles(store)
        if shipped and self._lock.held:
            self._name_runs()
        if self._lock.held:
            self._open_the_way(store)
        return shipped

    def _go_on(self) -> bool:
        return self._wanted() and self._lock.held

    def _slots(self) -> tuple[list[SpoolShipment], deque[list[SpoolShipment]]]:
        """The study's own spool, and the spools of each slot in their order."""
        parent = parent_folder(self._folder)
        slots: dict[str, list[SpoolShipment]] = {slot_of(parent): []}
        for shipment in self._looked_at:
            slots.setdefault(slot_of(shipment.folder), []).append(shipment)
        first, *rest = slots.values()
        return first, deque(rest)

    def _in_order(
        self, slots: deque[list[SpoolShipment]], store: MlflowStore, finishing: bool
    ) -> Iterator[list[SpoolShipment]]:
        """Yields each slot after the slots that follow have been prepared."""
        ahead: deque[list[SpoolShipment]] = deque()
        self._flows = True
        while slots or ahead:
            if slots and len(ahead) <= _GROUP:
                self._leave_doubles(store)
                group = [slots.popleft() for _ in range(min(_GROUP, len(slots)))]
                self._prepare([each for slot in group for each in slot], store, finishing)
                ahead += group
            yield ahead.popleft()

    def _prepare(self, group: Sequence[SpoolShipment], store: MlflowStore, finishing: bool) -> None:
        """Prepares spools before their turn, unless shipping is held up."""
        if self._flows:
            for shipment in group:
                shipment.prepare(finishing=finishing)
            store.look_for([run for each in group if (run := each.coming) is not None])

    def _leave_doubles(self, store: MlflowStore) -> None:
        """Finds out, for many runs at a time, whether another shipper made them too."""
        made = [self._made.popleft() for _ in range(len(self._made))]
        doubled = store.doubled([opening for _, opening in made])
        for shipment, opening in made:
            if opening.uid in doubled:
                shipment.leave_double()

    def _open_the_way(self, store: MlflowStore) -> None:
        """Restores or makes the study's run if it was deleted or purged since it was shipped."""
        try:
            self._find_parents(store)
        except ExperimentError:
            raise
        except RefusedError:  # it was deleted with its study, and stays deleted
            return

    def _find_parents(self, store: MlflowStore) -> None:
        there = store.check_parents()
        parent = self._shipments.get(parent_folder(self._folder))
        waiting = any(each.waits_for_parent for each in self._looked_at)
        if waiting and not self._waited:
            _logger.warning("attempts wait for the study's run, which another home will open")
        self._waited = waiting
        if parent is not None and (waiting or not there):
            parent.find_again()

    def _name_runs(self) -> None:
        """Adds the attempts' run ids to the study's own spool, which was shipped before them."""
        parent = self._shipments.get(parent_folder(self._folder))
        if parent is not None:
            parent.know_runs(self._runs())

    def _runs(self) -> dict[str, str]:
        progress = [shipment.progress for shipment in self._shipments.values()]
        return {each.uid: each.run_id for each in progress if each.run_id is not None}

    def survey(self) -> Survey:
        """The known run ids, and the number of events that are not shipped."""
        if self._store is None:
            return survey(self._folder)
        return Survey(self._runs(), sum(shipment.pending for shipment in self._looked_at))

    @property
    def dismissed(self) -> bool:
        """Whether the study was deleted, so that this shipper must end."""
        return self._lock.dismissed

    def close(self) -> None:
        """Removes the scratch folder and releases the lock."""
        self._lanes.close()
        if self._lock.held:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._lock.close()

    @property
    def _scratch(self) -> Path:
        return self._folder / "shipping"

    def _look(self, store: MlflowStore, finishing: bool) -> None:
        """Chooses the spools to look at. Those of ended attempts, the most, come now and then."""
        now = time.monotonic()
        if finishing or now >= self._look_at:
            for folder in spool_folders(self._folder, known=self._shipments):
                self._shipments[folder] = SpoolShipment(folder, store, self._begin)
            self._look_at = now + _LOOK_S
        back = finishing or now >= self._look_back_at
        if back:
            self._look_back_at = now + _LOOK_BACK_S
        shipments = self._shipments.values()
        self._looked_at = [each for each in shipments if back or not each.progress.ended]

    def _ship_all(
        self, spools: Sequence[SpoolShipment], store: MlflowStore, finishing: bool
    ) -> int:
        shipped = 0
        for each in spools:
            if not self._go_on():
                break
            shipped += self._ship(each, store, finishing)
            if each.folder in self._held_up and each.progress.run_id is None:
                break  # the next attempt of the slot contains the id of this run
        return shipped

    def _ship(self, shipment: SpoolShipment, store: MlflowStore, finishing: bool) -> int:
        """Ships one spool. If its run cannot be updated, the others go on while MLflow answers."""
        try:
            shipped = shipment.ship(self._go_on, finishing=finishing)
        except (UnavailableError, OSError) as error:  # MLflow's error, or a full disk here
            store.ping()
            if shipment.folder not in self._held_up:
                _logger.warning("%s is held up: %s", shipment.folder, error)
                self._held_up.add(shipment.folder)
            self._flows = False
            return 0
        self._held_up.discard(shipment.folder)
        if shipment.made is not None:
            self._made.append((shipment, shipment.made))
        self._flows = not shipment.waits_for_parent
        return shipped

    def _open_store(self) -> MlflowStore:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        return MlflowStore(self._settings, self._scratch)

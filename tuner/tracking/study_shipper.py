"""All spools of one study folder on their way to MLflow, the parent's first."""

import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from tuner.errors import RefusedError, UnavailableError
from tuner.tracking.experiments import ExperimentError
from tuner.tracking.figures import Figure
from tuner.tracking.mlflow_store import MlflowStore
from tuner.tracking.progress import Survey, survey
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipment import Shipment
from tuner.tracking.shipper_lock import ShippingLock
from tuner.tracking.spool import parent_folder, spool_folders

_LOOK_S = 1.0
"""How often new spools are looked for."""

_LOOK_BACK_S = 10.0
"""How often spools of ended attempts are looked at: a model may be displaced."""

_AHEAD = 4
"""How many spools are looked at before their turn, so that their figures are drawn meanwhile."""

_logger = logging.getLogger(__name__)


class StudyShipper:
    """Ships the spools of `folder`; of several shippers, the one that holds the lock.

    Args:
        folder: the study's.
        settings: name the store.
        go_on: asked before each step; False ends the shipping early.
        begin: lets the drawing of a figure begin; left out, figures are drawn here when they go.
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
        self._wanted = go_on
        self._store: MlflowStore | None = None
        self._shipments: dict[Path, Shipment] = {}
        self._looked_at: list[Shipment] = []
        self._look_at = self._look_back_at = 0.0
        self._held_up: set[Path] = set()
        self._waited = False
        """Whether attempts waited for the study's run at the last look."""

    def ship(self, *, finishing: bool = False) -> int:
        """Ships what is new, unless another shipper is at work; returns how many events.

        Args:
            finishing: the driver has gone; figures are drawn now.

        Raises:
            UnavailableError: MLflow does not answer.
            RefusedError: a person has to mend the experiment first.
        """
        if not self._lock.take():
            return 0
        store = self._store = self._store or self._open_store()
        self._look(store, finishing)
        shipped = sum(
            self._ship(shipment, store, finishing)
            for shipment in self._in_order(finishing)
            if self._go_on()
        )
        if shipped and self._lock.held:
            self._name_runs()
        if self._lock.held:
            self._open_the_way(store)
        return shipped

    def _go_on(self) -> bool:
        return self._wanted() and self._lock.held

    def _in_order(self, finishing: bool) -> Iterator[Shipment]:
        """Each once the figures of those that follow are being drawn, as long as they can go."""
        coming, held_up = deque(self._looked_at), False
        ahead: deque[Shipment] = deque()
        while coming or ahead:
            while coming and len(ahead) < _AHEAD:
                ahead.append(coming.popleft())
                if not held_up:
                    ahead[-1].prepare(finishing=finishing)
            shipment = ahead.popleft()
            yield shipment
            held_up = shipment.waits_for_parent or shipment.folder in self._held_up

    def _open_the_way(self, store: MlflowStore) -> None:
        """Attempts may wait for a study's run that is shipped, and was deleted or purged since."""
        try:
            self._find_parents(store)
        except ExperimentError:
            raise
        except RefusedError:  # it was deleted with its study, and is not brought back
            return

    def _find_parents(self, store: MlflowStore) -> None:
        there = store.check_parents()
        parent = self._shipments.get(parent_folder(self._folder))
        waiting = any(each.waits_for_parent for each in self._looked_at)
        if waiting and not self._waited:
            _logger.warning("attempts wait for the study's run, which another home is to open")
        self._waited = waiting
        if parent is not None and (waiting or not there):
            parent.find_again()

    def _name_runs(self) -> None:
        """The study's own spool is shipped first, before its attempts have their runs."""
        parent = self._shipments.get(parent_folder(self._folder))
        if parent is not None:
            parent.know_runs(self._runs())

    def _runs(self) -> dict[str, str]:
        progress = [shipment.progress for shipment in self._shipments.values()]
        return {each.uid: each.run_id for each in progress if each.run_id is not None}

    def survey(self) -> Survey:
        """The runs that are known, and how many events are left."""
        if self._store is None:
            return survey(self._folder)
        return Survey(self._runs(), sum(shipment.pending for shipment in self._looked_at))

    @property
    def dismissed(self) -> bool:
        """Whether the study was deleted, so that what lies there is another's to ship."""
        return self._lock.dismissed

    def close(self) -> None:
        """Removes the scratch folder and lets the next shipper in."""
        if self._lock.held:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._lock.close()

    @property
    def _scratch(self) -> Path:
        return self._folder / "shipping"

    def _look(self, store: MlflowStore, finishing: bool) -> None:
        """Chooses the spools to look at: what grows dear with trials is done now and then."""
        now = time.monotonic()
        if finishing or now >= self._look_at:
            for folder in spool_folders(self._folder, known=self._shipments):
                self._shipments[folder] = Shipment(folder, store, self._begin)
            self._look_at = now + _LOOK_S
        back = finishing or now >= self._look_back_at
        if back:
            self._look_back_at = now + _LOOK_BACK_S
        shipments = self._shipments.values()
        self._looked_at = [each for each in shipments if back or not each.progress.ended]

    def _ship(self, shipment: Shipment, store: MlflowStore, finishing: bool) -> int:
        """One run that cannot be updated holds up no other, unless MLflow itself is away."""
        try:
            shipped = shipment.ship(self._go_on, finishing=finishing)
        except (UnavailableError, OSError) as error:  # MLflow's, or a full disk of ours
            store.ping()
            if shipment.folder not in self._held_up:
                _logger.warning("%s is held up: %s", shipment.folder, error)
                self._held_up.add(shipment.folder)
            return 0
        self._held_up.discard(shipment.folder)
        return shipped

    def _open_store(self) -> MlflowStore:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        return MlflowStore(self._settings, self._scratch)

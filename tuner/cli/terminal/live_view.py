"""Shows a running study: a live view on a terminal, plain lines elsewhere."""

import time
from dataclasses import dataclass, field, replace
from threading import Event, RLock, Thread
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.cli.terminal.terminal_tables import best_point, duration, params, score
from tuner.search.ranking import PointSummary
from tuner.study.driver_events import (
    EpochDone,
    Planned,
    ProgressEvent,
    SetupStep,
    TrialBegan,
    TrialDone,
    TrialHandedBack,
)
from tuner.words import count, seconds

_REFRESH_S = 0.25


class View(Protocol):
    """Shows progress events inside a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...

    def show(self, event: ProgressEvent) -> None:
        """Shows one event. Thread-safe."""
        ...


def view(console: Console) -> View:
    """Returns the live view for a terminal, the plain view for anything else."""
    return LiveView(console) if console.is_terminal else PlainView(console)


def line(event: ProgressEvent, metric: str) -> str:
    """Formats an event as one line of text."""
    match event:
        case SetupStep(text=text):
            return text
        case Planned():
            return _plan(event)
        case TrialBegan():
            again = f", attempt {event.attempt + 1}" if event.attempt else ""
            return f"trial {event.number} on {event.device}{again}: {params(event.params)}"
        case EpochDone():
            beside = "accuracy" if metric == "loss" else "loss"
            shown = [f"{name} {score(event.metrics.get(name))}" for name in (metric, beside)]
            if event.seconds is None:
                return f"{_epoch_of(event)}: {shown[0]}"
            return f"{_epoch_of(event)}: {', '.join(shown)}, {seconds(event.seconds)}"
        case TrialDone():
            return _ending(event, metric)
        case TrialHandedBack():
            return f"trial {event.number} handed back: {event.reason}"


def _epoch_of(event: EpochDone) -> str:
    return f"trial {event.number} epoch {event.epoch}/{event.epochs}"


def _plan(event: Planned) -> str:
    done = f" ({event.done} done)" if event.done else ""
    work = f"{event.study}: {count(event.slots, 'trial')}{done} of {count(event.epochs, 'epoch')}"
    if event.epoch_s is None:
        return work
    return (
        f"{work} on {count(event.trainers, 'trainer')}; "
        f"an epoch takes {seconds(event.epoch_s)} here, "
        f"so {'at least ' * event.races}about {duration(event.seconds)}"
        f"{' if nothing is pruned' * event.prunes}"
    )


def _ending(event: TrialDone, metric: str) -> str:
    took = duration(event.seconds)
    if event.reason:
        return f"trial {event.number} {event.state} after {took}: {event.reason}"
    best = f"{metric} {score(event.value)} at epoch {event.best_epoch}"
    return f"trial {event.number} {event.state} after {took}: {best}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"about {duration(seconds)} left"


class PlainView:
    """One line per event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._metric = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def show(self, event: ProgressEvent) -> None:
        """Prints the event."""
        if isinstance(event, Planned):
            self._metric = event.metric
        self._console.print(
            line(event, self._metric), markup=False, highlight=False, soft_wrap=True
        )


@dataclass
class _Running:
    """A running trial."""

    began: TrialBegan
    epoch: int = 0
    value: float | None = None


@dataclass
class _Standing:
    """The state that the live view shows."""

    plan: Planned | None = None
    step: str = ""
    running: dict[int, _Running] = field(default_factory=dict)
    done: int = 0
    epochs_done: int = 0
    epoch_s: float | None = None
    best: PointSummary | None = None
    started: float = field(default_factory=time.monotonic)

    def update(self, event: ProgressEvent) -> None:
        match event:
            case SetupStep(text=text):
                self.step = text
            case Planned():
                self.plan, self.done, self.epoch_s = event, event.done, event.epoch_s
                self.best = event.best
            case TrialBegan():
                self.running[event.number] = _Running(event)
            case EpochDone():
                self._epoch(event)
            case TrialDone():
                self._end(event)
            case TrialHandedBack():
                self.running.pop(event.number, None)

    def _epoch(self, event: EpochDone) -> None:
        assert self.plan is not None
        running = self.running[event.number]
        running.epoch, running.value = event.epoch, event.metrics.get(self.plan.metric)
        self.epochs_done += 1
        if event.seconds is not None and self.epoch_s is not None:
            self.epoch_s += (event.seconds - self.epoch_s) / self.epochs_done

    def _end(self, event: TrialDone) -> None:
        self.running.pop(event.number, None)
        self.done += 1
        self.best = event.best
        if self.plan is not None and event.slots:
            self.plan = replace(self.plan, slots=event.slots)  # a race grows

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the mean epoch time, without pruning; None if epochs are not timed."""
        assert self.plan is not None
        if self.epoch_s is None:
            return None
        trained = sum(running.epoch for running in list(self.running.values()))
        epochs = (self.plan.slots - self.done) * self.plan.epochs - trained
        return epochs * self.epoch_s / self.plan.trainers


class LiveView:
    """A block at the bottom of the terminal, below the lines of finished trials."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._standing = _Standing()
        self._live = Live(
            console=console, get_renderable=self._render, auto_refresh=False, transient=True
        )
        self._lock = RLock()  # if two threads print at once, Rich leaves parts of the block behind
        self._closed = Event()
        self._refreshing = Thread(target=self._refresh, daemon=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._refreshing.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._closed.set()
        self._refreshing.join()
        self._live.stop()

    def show(self, event: ProgressEvent) -> None:
        """Updates the block. Prints events other than starts and epochs above it."""
        with self._lock:
            self._standing.update(event)
            if not isinstance(event, TrialBegan | EpochDone):
                metric = self._standing.plan.metric if self._standing.plan else ""
                self._console.print(line(event, metric), markup=False, highlight=False)

    def _refresh(self) -> None:
        while not self._closed.wait(_REFRESH_S):
            with self._lock:
                self._live.refresh()

    def _render(self) -> RenderableType:
        standing = self._standing
        if standing.plan is None:
            return Text(f"… {standing.step}", style="dim")
        return Group(self._bar(standing.plan), self._trials(standing.plan), self._best())

    def _bar(self, plan: Planned) -> RenderableType:
        standing = self._standing
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            f"{plan.study}",
            ProgressBar(total=plan.slots, completed=standing.done, width=30),
            f"{standing.done}/{plan.slots} trials",
            f"{duration(time.monotonic() - standing.started)} so far",
            _left(standing.seconds_left) if standing.done < plan.slots else "",
        )
        return grid

    def _trials(self, plan: Planned) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        for number, running in sorted(self._standing.running.items()):
            grid.add_row(
                f"  trial {number}",
                f"epoch {running.epoch}/{plan.epochs}",
                f"{plan.metric} {score(running.value)}",
                running.began.device,
                params(running.began.params),
            )
        return grid

    def _best(self) -> RenderableType:
        best = self._standing.best
        if best is None or self._standing.plan is None:
            return Text("  no trial has completed yet", style="dim")
        shown = best_point(best, self._standing.plan.metric)
        return Text(f"  best: {shown}", style="bold green")

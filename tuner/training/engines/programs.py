"""The compiled programs that an engine keeps, so that most trials find theirs ready."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import keras

from tuner.training.engines.network import Network, UnlikeError, check_alike, signature


class OnNetwork(Protocol):
    """What a program of any backend has."""

    @property
    def network(self) -> Network:
        """What it trains."""
        ...


Program = TypeVar("Program", bound=OnNetwork)

_KEPT = 8
"""A program holds a network and its optimizer's state, and a search over layers makes many."""


class Programs(Generic[Program]):
    """The latest programs, by what they were compiled for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], Program] = OrderedDict()

    def fitting(
        self,
        compiled_for: tuple[str, ...],
        model: keras.Model,
        make: Callable[[Network], Program],
        difference: Callable[[Program, keras.Model], str | None],
    ) -> tuple[Program, tuple[str, ...]]:
        """The program that trains this network: an earlier trial's, or a new one.

        A program that others share is proven to do what the network does, for every trial anew.

        Args:
            compiled_for: what besides the network makes it another program.
            model: the trial's own network.
            make: compiles a program.
            difference: in what a program's network computes something else than this one.

        Returns:
            The program, and a remark where it cannot be shared with other trials.
        """
        try:
            program = self._shared((*compiled_for, signature(model)), model, make)
            check_alike(model, program.network, lambda: difference(program, model))
        except UnlikeError as reason:
            program = make(Network(model, shared=False))
            return program, (f"compiled anew for this trial: {reason}",)
        return program, ()

    def _shared(
        self, key: tuple[str, ...], model: keras.Model, make: Callable[[Network], Program]
    ) -> Program:
        if key not in self._kept:
            self._kept[key] = make(Network(model, shared=True))
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

"""The compiled programs that an engine keeps, so that most trials find theirs ready."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import keras

from tuner.training.engines.network import Network, signature

Program = TypeVar("Program")

_KEPT = 8
"""A program holds a network and its optimizer's state, and a search over layers makes many."""


class Programs(Generic[Program]):
    """The latest programs, by what they were compiled for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], Program] = OrderedDict()

    def fitting(
        self, compiled_for: tuple[str, ...], model: keras.Model, make: Callable[[Network], Program]
    ) -> tuple[Program, tuple[str, ...]]:
        """The program that trains this network: an earlier trial's, or a new one.

        Args:
            compiled_for: what besides the network makes it another program.
            model: the trial's own network.
            make: compiles a program.

        Returns:
            The program, and a remark where it cannot be kept for others.
        """
        try:
            key = (*compiled_for, signature(model))
        except ValueError as unknown:
            program = make(Network(model, shared=False))
            return program, (f"compiled anew for this trial: {unknown}",)
        if key not in self._kept:
            self._kept[key] = make(Network(model, shared=True))
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key], ()

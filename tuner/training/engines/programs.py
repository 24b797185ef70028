"""The compiled programs that an engine keeps, and which part of a trial a program fixes.

Compiling takes longer than some epochs, so trials share a program where they can.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import keras

from tuner.spec.recipe import Pixels, Recipe
from tuner.training.engines.network import Network, UnlikeError, check_alike, signature
from tuner.training.plan import Precision, TrialPlan

_INPUTS = ("learning_rate", "schedule", "batch_size", "patience")
"""The recipe's values that no program fixes: an engine gives each step its rate and its rows."""
_KEPT = 8
"""A program holds a network and its optimizer's state, and a search over layers makes many."""


@dataclass(frozen=True)
class CompiledPart:
    """The part of a trial that a program fixes. Trials that agree in it share the program.

    All else is an input of the program: the learning rate of each step, the batch size, weights,
    seeds, dropout rates, and whatever else of the recipe an engine takes as an input.
    """

    precision: Precision
    pixels: Pixels
    recipe: Recipe
    """With the default for each value that is an input."""
    network: str
    """The network's `signature`, which leaves out its dropout rates."""


class CompiledProgram(Protocol):
    """A compiled program of any backend."""

    @property
    def network(self) -> Network:
        """The network that it trains."""
        ...


Program = TypeVar("Program", bound=CompiledProgram)


class Programs(Generic[Program]):
    """The programs used last, by the part of a trial that they fix."""

    def __init__(self, *inputs: str) -> None:
        """Starts without a program.

        Args:
            inputs: names of further values of the recipe that the engine's programs take as inputs.
        """
        self._inputs = {*_INPUTS, *inputs}
        self._kept: OrderedDict[CompiledPart, Program] = OrderedDict()

    def fitting(
        self,
        plan: TrialPlan,
        model: keras.Model,
        make: Callable[[Network, Recipe], Program],
        difference: Callable[[Program, keras.Model], str | None],
    ) -> tuple[Program, tuple[str, ...]]:
        """Finds the program that trains the plan's network: an earlier trial's, or a new one.

        A shared program is proven for each trial to compute what the trial's own network does.

        Args:
            plan: the trial.
            model: the trial's own network.
            make: makes a program for a network and the part of the recipe that it fixes.
            difference: names what a program's network computes differently from this one, if
                anything.

        Returns:
            The program, and a remark if it cannot be shared with other trials.
        """
        recipe = self._fixed(plan.recipe)
        try:
            part = CompiledPart(plan.precision, plan.pixels, recipe, signature(model))
            program = self._shared(part, model, make)
            check_alike(model, program.network, lambda: difference(program, model))
        except UnlikeError as reason:
            program = make(Network(model, shared=False), recipe)
            return program, (f"compiled anew for this trial: {reason}",)
        return program, ()

    def _fixed(self, recipe: Recipe) -> Recipe:
        fixed = {name: value for name, value in dict(recipe).items() if name not in self._inputs}
        return Recipe.model_validate(fixed)

    def _shared(
        self, part: CompiledPart, model: keras.Model, make: Callable[[Network, Recipe], Program]
    ) -> Program:
        if part not in self._kept:
            self._kept[part] = make(Network(model, shared=True), part.recipe)
        self._kept.move_to_end(part)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[part]

"""The input transform: all that it takes to read a picture file as a data set's images are.

A data set states how (`Reading`); with the shape of its images, and for drawings with what they
look like, that is the whole transform. It is recorded with the data set and with the registered
model, so that a file means the same pixels to training and to prediction.
"""

from typing import Annotated, Literal

from pydantic import Field

from tuner.spec.section import Frozen

Fit = Literal["stretch", "crop", "pad"]
"""How a picture of another shape becomes the data set's: resized without regard to its aspect,
cut at its centre to the aspect, or put whole on the background."""

Level = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Level, Level, Level]
"""Red, green, blue."""

WHITE: Colour = (255, 255, 255)


class Framing(Frozen):
    """How the images of a data set with a plain background show what is drawn."""

    ground: Literal["dark", "light"]
    content_fraction: float
    """Share of the frame that the larger side of the content covers."""


class InputTransform(Frozen):
    """From a picture file to pixels; `tuner.datasets.pictures.picture_files` carries it out."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    fit: Fit = "stretch"
    background: Colour = WHITE
    """What transparent pictures are put on, and padded with."""
    framing: Framing | None = None
    """What drawings are brought to; None for pictures that are taken as they are."""


class Reading(Frozen):
    """What a data set states of how picture files are read for it."""

    fit: Fit = "stretch"
    """What Keras' `image_dataset_from_directory` does unless told otherwise."""
    background: Colour = WHITE
    recentre: bool = False
    """Whether pictures are photos of something drawn, which is found, given the data's polarity
    and framed as the data frames it; only where the data has a plain background."""

    def transform(
        self,
        image_shape: tuple[int, int, int],
        ground: Literal["dark", "light", "mixed"],
        content_fraction: float,
    ) -> InputTransform:
        """The whole transform, for a data set whose images look so."""
        framing = None
        if self.recentre and ground != "mixed":
            framing = Framing(ground=ground, content_fraction=content_fraction)
        return InputTransform(
            image_shape=image_shape, fit=self.fit, background=self.background, framing=framing
        )


PLAIN = Reading()
"""For pictures that are taken as they are."""
DRAWINGS = Reading(fit="crop", recentre=True)
"""For data sets of drawn figures, such as MNIST, of which people have photos."""


def unstated(dataset: str) -> Reading:
    """What holds for a data set that was prepared before data sets stated it."""
    return PLAIN if dataset == "image-folder" else DRAWINGS

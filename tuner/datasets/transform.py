"""The input transform: the settings to read a picture file as an image of a data set.

It consists of the settings that the data set states (`Reading`), the shape of its images and, for
drawings, their appearance. It is recorded with the data set and with the registered model, so that
a file gives the same pixels in training and in prediction.
"""

from typing import Annotated, Literal

from pydantic import Field

from tuner.spec.section import Frozen

Fit = Literal["stretch", "crop", "pad"]
"""How a picture gets the data set's shape: resized without keeping its aspect ratio, cut at its
centre to the aspect ratio, or put whole on the background."""

Level = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Level, Level, Level]
"""A colour as red, green, blue."""

WHITE: Colour = (255, 255, 255)


class Framing(Frozen):
    """How the images of a data set with a plain background show the drawing."""

    ground: Literal["dark", "light"]
    content_fraction: float
    """The share of the frame that the larger side of the content covers."""


class InputTransform(Frozen):
    """The transform from a picture file to pixels, which `pictures.picture_files` applies."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    fit: Fit = "stretch"
    background: Colour = WHITE
    """The colour under transparent pictures, and of the padding."""
    framing: Framing | None = None
    """The framing of drawings; None for pictures that are not reframed."""


class Reading(Frozen):
    """The settings that a data set states for reading picture files."""

    fit: Fit = "stretch"
    """The default of Keras' `image_dataset_from_directory`."""
    background: Colour = WHITE
    recentre: bool = False
    """Whether pictures are photos of drawings. Then the drawing is found, and gets the data's
    polarity and framing, if the data has a plain background."""

    def transform(
        self,
        image_shape: tuple[int, int, int],
        ground: Literal["dark", "light", "mixed"],
        content_fraction: float,
    ) -> InputTransform:
        """The whole transform, for a data set with this appearance."""
        framing = None
        if self.recentre and ground != "mixed":
            framing = Framing(ground=ground, content_fraction=content_fraction)
        return InputTransform(
            image_shape=image_shape, fit=self.fit, background=self.background, framing=framing
        )


PLAIN = Reading()
"""For pictures that are not reframed."""
DRAWINGS = Reading(fit="crop", recentre=True)
"""For data sets of drawn figures, such as MNIST, to be used on photos."""


def unstated(dataset: str) -> Reading:
    """The transform of a data set that was prepared before data sets stated one."""
    return PLAIN if dataset == "image-folder" else DRAWINGS

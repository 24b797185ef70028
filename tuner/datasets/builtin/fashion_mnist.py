"""Fashion-MNIST: 70,000 pieces of clothing in MNIST's form.

H. Xiao, K. Rasul, R. Vollgraf, 2017: https://github.com/zalandoresearch/fashion-mnist.
"""

from pathlib import Path

from tuner.datasets.dataset import Dataset
from tuner.datasets.published.published_dataset import Digests, Published, keras_cache
from tuner.datasets.published.sources import DebianPackage, IdxAddress, IdxFolder

KERAS_ADDRESS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

DIGESTS = Digests(
    x_train="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    y_train="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    x_test="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    y_test="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
"""Computed from Debian's dataset-fashion-mnist 0.0~git20200523.55506a9-1."""


def load() -> Dataset:
    """Returns Fashion-MNIST, 60,000 training and 10,000 test images of 28x28, uint8.

    Sources, each verified: our cache, Keras' cache, Keras' address, Debian's package.

    Raises:
        DataError: none of them has it.
    """
    return published().load()


def published() -> Published:
    """The hashes and sources of Fashion-MNIST."""
    sources = (
        IdxFolder(keras_cache() / "fashion-mnist"),
        IdxAddress(KERAS_ADDRESS),
        DebianPackage("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")),
    )
    return Published("fashion-mnist", CLASSES, DIGESTS, sources)

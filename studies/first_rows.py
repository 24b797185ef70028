"""The first training rows of MNIST, for studies that are to be short."""

from tuner.datasets.builtin import mnist
from tuner.datasets.dataset import Dataset, Split


def load(rows: int) -> Dataset:
    """Returns MNIST with its first `rows` training images and all test images."""
    whole = mnist.load()
    train = Split(whole.train.images[:rows], whole.train.labels[:rows])
    return Dataset(train, whole.test, whole.classes, whole.source, whole.reading)

import shutil
import subprocess

import numpy as np
import pytest

from tuner.datasets.builtin import fashion_mnist
from tuner.datasets.published.published_dataset import Published
from tuner.datasets.published.sources import DebianPackage


def debian_has_it() -> bool:
    if not shutil.which("apt-cache"):
        return False
    shown = subprocess.run(["apt-cache", "show", "dataset-fashion-mnist"], capture_output=True)
    return shown.returncode == 0


@pytest.mark.skipif(not debian_has_it(), reason="no Debian package lists on this machine")
@pytest.mark.usefixtures("cache_home")
def test_debian_package_is_the_real_one() -> None:
    whole = fashion_mnist.published()
    (debian,) = (source for source in whole.sources if isinstance(source, DebianPackage))
    published = Published(whole.name, whole.classes, whole.digests, (debian,))
    dataset = published.load()
    assert dataset.source == "Debian package dataset-fashion-mnist"
    assert np.bincount(dataset.train.labels).tolist() == [6000] * 10
    assert dataset.classes[dataset.train.labels[0]] == "Ankle boot"
    assert published.load().source == str(published.cache)

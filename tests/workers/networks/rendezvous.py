"""A network that is built only while another trainer builds one."""

import os
import time
from pathlib import Path

import keras
import loud  # type: ignore[import-not-found]  # it lies beside this file

_LONGEST_S = 120


def network(*, input_shape: tuple[int, int, int], classes: int, meet_in: str) -> keras.Model:
    folder = Path(meet_in)
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + _LONGEST_S
    while len(list(folder.iterdir())) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError("nobody else came")
        time.sleep(0.01)
    return loud.network(input_shape=input_shape, classes=classes)

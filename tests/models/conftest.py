"""Networks are built in pytest's own process; a user's are written into a folder."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported

_NUMBERS = count()


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module of a user's own where it can be imported, and returns its name."""

    def write(code: str) -> str:
        name = f"own_models_{next(_NUMBERS)}"  # imported once, whatever the folder
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return write

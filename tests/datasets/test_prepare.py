import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until
from tuner.datasets.prepare import Request, prepare_apart
from tuner.datasets.store import prepare
from tuner.errors import DataError, TunerError, UsageError
from tuner.spec.study_spec import DatasetReference

Write = Callable[[str, str], Path]

ARRAYS = (
    "import os, sys, time\n"
    "import numpy as np\n"
    "x, y = np.arange(36, dtype=np.uint8).reshape(4, 3, 3), np.array([0, 1, 0, 1])\n"
    "def load():\n"
    "    {}\n"
    "    return (x, y), (x, y)\n"
)


def apart(folder: Path, name: str) -> tuple[str, list[str]]:
    """Prepares `name` from the module in `folder`; returns the digest and what was said."""
    said: list[str] = []
    info = prepare_apart(DatasetReference(name=name), folder / "root", [folder], said.append)
    assert info.folder.parent == folder / "root"
    return info.digest, said


def test_it_is_what_preparing_here_gives(tmp_path: Path) -> None:
    reference = DatasetReference(name="digits")
    said: list[str] = []
    info = prepare_apart(reference, tmp_path / "apart", [], said.append)
    here = prepare(reference, tmp_path / "here")
    assert info == here.model_copy(update={"folder": info.folder})
    assert said == []


def test_a_noisy_function_is_heard_and_does_no_harm(own_module: Write) -> None:
    noise = (
        "print('hello'); os.write(1, b'raw\\n'); os.system('echo shell')\n"
        "    print('error', file=sys.stderr); assert sys.stdin.read() == ''"
    )
    folder = own_module("noisy", ARRAYS.format(noise))
    _, said = apart(folder, "noisy:load")
    assert said == ["hello", "raw", "shell", "error"]


def test_a_notebooks_way_to_draw_is_not_handed_down(
    own_module: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    folder = own_module("drawing", ARRAYS.format("import matplotlib.pyplot"))
    apart(folder, "drawing:load")


@pytest.mark.slow_variants(quick=2)
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("mnits", UsageError, "did you mean 'mnist'"),
        ("wrong:load", DataError, "data set 'wrong:load': ValueError: no disk .*wrong.py:5"),
        ("wrong:nothing", UsageError, "unknown function of wrong 'nothing'"),
        ("absent:load", UsageError, "cannot import 'absent'"),
        ("syntax:load", DataError, "data set 'syntax:load': SyntaxError"),
        ("queue:load", UsageError, "queue:load: 'queue' is one of Python's own modules.*queue.py"),
        ("borrower:load", UsageError, "cannot import name 'mine' from 'queue'.*rename .*queue.py"),
        ("stranger:load", DataError, r"ValueError: \\ud800 and \\x00"),
    ],
)
def test_errors_come_back_as_they_are(
    own_module: Write, name: str, error: type[TunerError], message: str
) -> None:
    own_module("syntax", "def load(:\n")
    own_module("queue", ARRAYS.format("pass"))
    own_module("borrower", "from queue import mine as load")
    own_module("stranger", ARRAYS.format(r"raise ValueError('\ud800 and \x00')"))
    folder = own_module("wrong", ARRAYS.format("raise ValueError('no disk')"))
    with pytest.raises(error, match=message):
        apart(folder, name)


@pytest.mark.slow_variants(quick=2)
@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("os._exit(7)", "exit status 7"),
        ("sys.exit(3)", "exit status 3"),
        ("os.abort()", "killed by SIGABRT"),
        (
            "os.kill(os.getpid(), 9)",
            "killed by SIGKILL, probably by the kernel because memory ran out",
        ),
        ("os.fork() and os._exit(7); time.sleep(1000)", "exit status 7"),
    ],
)
def test_a_process_that_dies_is_a_data_error(own_module: Write, code: str, ending: str) -> None:
    folder = own_module("deadly", ARRAYS.format(f"print('loading'); {code}"))
    log = folder / "root" / "prepare.log"
    with pytest.raises(DataError, match=f"'deadly:load': .*: {ending}; .* {log}$"):
        apart(folder, "deadly:load")
    assert log.read_text().startswith("loading\n")


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def process_ids(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "pids").read_text().split()]


@pytest.fixture
def endless(own_module: Write, tmp_path: Path) -> Path:
    """A function that starts a process of its own, writes both ids and never returns."""
    hang = (
        "import subprocess; child = subprocess.Popen(['sleep', '1000'])\n"
        f"    path = {str(tmp_path / 'pids')!r}\n"
        "    open(path + '.new', 'w').write(f'{os.getpid()} {child.pid}')\n"
        "    os.replace(path + '.new', path); print('started'); time.sleep(1000)"
    )
    return own_module("endless", ARRAYS.format(hang))


def test_one_that_never_ends_is_ended_and_a_data_error(
    endless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.datasets.prepare._LIMIT_S", 0.1)
    with pytest.raises(DataError, match=r"'endless:load': must be prepared within .* beforehand"):
        apart(endless, "endless:load")


def test_an_interrupted_asker_takes_it_along(endless: Path, tmp_path: Path) -> None:
    reference = DatasetReference(name="endless:load")
    with pytest.raises(KeyboardInterrupt):
        prepare_apart(
            reference,
            tmp_path / "root",
            [endless],
            lambda _: os.kill(os.getpid(), signal.SIGINT),
        )
    wait_until(lambda: all(map(gone, process_ids(tmp_path))))


def test_a_killed_asker_takes_it_along(endless: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from tuner.datasets.prepare import prepare_apart\n"
        "from tuner.spec.study_spec import DatasetReference\n"
        "prepare_apart(DatasetReference(name='endless:load'), "
        f"Path({str(tmp_path / 'root')!r}), [Path({str(endless)!r})], print)\n"
    )
    asker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "pids").exists)
    asker.kill()
    asker.wait()
    wait_until(lambda: all(map(gone, process_ids(tmp_path))))


def test_a_request_on_standard_input_is_answered_in_one_line(tmp_path: Path) -> None:
    request = Request(reference=DatasetReference(name="digits"), root=tmp_path / "root")
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner.datasets.prepare"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(request.model_dump_json() + "\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["train_count"] == 1437
    assert process.stdout.read() == ""
    process.stdin.close()
    process.stdout.close()
    assert process.wait() == 0

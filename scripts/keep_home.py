"""Keeps a state folder of this version as `tests/homes/NAME.tar.xz`; part of every release.

    .venv/bin/python scripts/keep_home.py [NAME]

The name is the version's unless it is given. The archive is a user's folder with three studies:

- `finished`: one trial is completed and promoted, one pruned, one has lost its trainer and failed;
- `interrupted`: one trial is completed. The next was stopped in its middle, then its driver and
  everything else was killed: an attempt and the study's run are open, a checkpoint lies there, the
  last events have not been shipped, and a point is queued;
- `submitted`: no worker has begun it.

It holds the state folder `.tuner`, the study files and the network, and what `tuner show --json`
told of the first two studies. Figures that shipping draws are left out: it draws them again.
`tests/homes/test_homes.py` upgrades each archive and finishes its study.

A state folder says on which machine and for whom it was made. So the commands run under another
host name, with util-linux's `unshare`, and an archive that names this machine is refused.
"""

import argparse
import getpass
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
HOMES = ROOT / "tests" / "homes"
HOST, USER = "elsewhere", "someone"
STARTED = """import socket, sys
socket.sethostname(sys.argv.pop(1))
sys.argv[0] = "tuner"  # MLflow notes it down as the source of a run
from tuner.__main__ import main
main()
"""
LEFT_OUT = re.compile(r".*\.lock|(?!.*/promotion/).*\.png")
BINARY = (".keras", ".npy", ".npz", ".png")
"""Files without text, in which a short name may occur by chance."""

NETWORKS = '''"""A network with one hidden layer."""

import os
import signal

import keras


def build(*, input_shape, classes, width=8):
    if not width:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out
    return keras.Sequential(
        [
            keras.layers.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dense(classes, activation="softmax", dtype="float32"),
        ]
    )
'''
COMMON = """dataset: digits
model: networks:build
precision: float32
validation: 200
workers: 1
keep_models: 1
lease_s: 2
"""
STUDIES = {
    "finished": f"""name: finished
{COMMON}search_space:
  learning_rate: {{type: float, low: 1e-7, high: 1e-1, log: true}}
  width: {{type: choice, choices: [0, 8]}}
  batch_size: 16
baseline:
  - {{learning_rate: 0.01, width: 8}}
  - {{learning_rate: 1e-7, width: 8}}
  - {{learning_rate: 0.01, width: 0}}
pruner: {{type: median, n_startup_trials: 1}}
max_retries: 0
trials: 3
epochs: 3
promotion: {{model: digits, gates: {{test_accuracy: 0.5}}}}
""",
    "interrupted": f"""name: interrupted
{COMMON}search_space:
  learning_rate: {{type: float, low: 1e-4, high: 1e-1, log: true}}
  width: {{type: choice, choices: [4, 8]}}
  batch_size: 1
baseline:
  - {{learning_rate: 0.001, width: 8}}
pruner: none
trials: 3
epochs: 20
""",
    "submitted": f"""name: submitted
{COMMON}search_space:
  width: {{type: int, low: 2, high: 8}}
trials: 2
epochs: 1
""",
}


def main() -> None:
    """Makes the folder, looks for traces of this machine, and packs it."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("name", nargs="?", default=version("tuner"))
    archive = HOMES / f"{arguments.parse_args().name}.tar.xz"
    if archive.exists():
        sys.exit(f"{archive}: is there already; remove it first if it is to be replaced")
    with tempfile.TemporaryDirectory(prefix="tuner-", dir="/tmp") as folder:
        fill(Path(folder))
        if found := list(traces(Path(folder))):
            sys.exit("\n".join(["it names this machine:", *found]))
        pack(Path(folder), archive)
    print(f"{archive}: {archive.stat().st_size / 1000:.0f} kB")


def fill(folder: Path) -> None:
    """Does what a user would have done in the folder."""
    (folder / "networks.py").write_text(NETWORKS)
    for name, text in STUDIES.items():
        (folder / f"{name}.yaml").write_text(text)
    run(folder, "run-study", "finished.yaml")
    run(folder, "promote", "best", "finished")
    with driving(folder, "1-0") as driver:
        driver.terminate()
    run(folder, "enqueue", "interrupted", "learning_rate=0.002", "width=4")
    with driving(folder, "1-1", "--set", "workers=1") as driver:
        kill(driver)
    run(folder, "run-study", "submitted.yaml", "--detach")
    for name in ("finished", "interrupted"):
        (folder / f"{name}.json").write_text(run(folder, "show", name, "--json"))
    print(run(folder, "doctor", code=1))


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    """Runs the command to its end; what it printed."""
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != code:
        sys.exit(f"tuner {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


@contextmanager
def driving(folder: Path, attempt: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs the study until the attempt has written a checkpoint; the block ends the driver."""
    checkpoint = f".tuner/studies/interrupted/*/attempts/{attempt}/checkpoint.npz"
    driver = subprocess.Popen(
        command("run-study", "interrupted.yaml", *arguments), cwd=folder, env=environment()
    )
    while not any(folder.glob(checkpoint)):
        if driver.poll() is not None:
            sys.exit(f"the driver ended before there was {checkpoint}")
        time.sleep(0.01)
    yield driver
    driver.wait()


def kill(driver: "subprocess.Popen[bytes]") -> None:
    """Ends the driver and everything that it started, as a power cut would."""
    own = psutil.Process(driver.pid)
    processes = [own, *own.children(recursive=True)]
    for each in processes:
        each.kill()
    psutil.wait_procs(processes[1:])


def command(*arguments: str) -> list[str]:
    """`tuner` under another host name."""
    unshared = ("unshare", "--user", "--map-root-user", "--uts")
    return [*unshared, sys.executable, "-P", "-c", STARTED, HOST, *arguments]


def environment() -> dict[str, str]:
    """The state folder is `.tuner`, and the user is nobody we know."""
    ours = ("TUNER_", "MLFLOW_", "KERAS_")
    theirs = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return theirs | {"LOGNAME": USER, "PYTHONDONTWRITEBYTECODE": "1"}


def traces(folder: Path) -> Iterator[str]:
    """Where a file names this machine, its user or where it keeps things."""
    places = {str(ROOT), sys.prefix, str(Path.home()), *filter(os.path.isabs, sys.path)}
    places = {each for each in places if not each.startswith(f"{sys.base_prefix}/")}
    names = {socket.gethostname(), getpass.getuser()} - {"root"}
    own = [re.escape(each) for each in places] + [rf"\b{re.escape(each)}\b" for each in names]
    pattern = re.compile("|".join(own).encode())
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix not in BINARY:
            content = file.read_bytes()
            for each in pattern.finditer(content):
                around = content[max(0, each.start() - 40) : each.end() + 40]
                yield f"{file.relative_to(folder)}: {around!r}"


def pack(folder: Path, archive: Path) -> None:
    """Packs what the folder holds, owned by nobody, as small as it gets."""

    def neutral(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return None if LEFT_OUT.fullmatch(entry.name) else entry

    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for each in sorted(folder.iterdir()):
            packed.add(each, each.name, filter=neutral)


if __name__ == "__main__":
    main()

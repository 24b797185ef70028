"""The shipper as a process, against a real MLflow server: killed, cut off, out-waited."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from mlflow import MlflowClient

from tests.tracking.recorder import Recorder, summary
from tests.tracking.servers import Server
from tests.waiting import LONGEST_S, wait_until
from tests.workers.conftest import is_gone
from tuner.errors import ExitCode, UnavailableError
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping import shipper_process
from tuner.tracking.shipping.shipper import Shipper
from tuner.tracking.shipping.study_shipper import StudyShipper
from tuner.tracking.spool.shipped import Survey, load_progress, survey
from tuner.tracking.spool.spool import spool_folders


@pytest.fixture
def started() -> Iterator[list[Shipper]]:
    """The shippers of a test, ended with it whatever happens."""
    shippers: list[Shipper] = []
    yield shippers
    for shipper in shippers:
        shipper.finish(lambda: 0)


def shipped_bytes(folder: Path) -> int:
    progress = [load_progress(spool) for spool in spool_folders(folder)]
    return sum(each.offset for each in progress if each)


def kill_once_it_gets_on(shipper: Shipper, folder: Path) -> None:
    before = shipped_bytes(folder)
    wait_until(lambda: shipped_bytes(folder) > before)
    os.kill(shipper.pid, signal.SIGKILL)
    wait_until(lambda: not shipper.alive)


def statuses(settings: TrackingSettings) -> dict[str, str]:
    client = MlflowClient(settings.uri)
    experiment = client.get_experiment_by_name(settings.experiment)
    runs = client.search_runs([experiment.experiment_id])
    names = [run.info.run_name for run in runs]
    assert len(set(names)) == len(names), "a run was created twice"
    return {run.info.run_name: run.info.status for run in runs}


def steps(settings: TrackingSettings, name: str, key: str) -> list[int]:
    client = MlflowClient(settings.uri)
    experiment = client.get_experiment_by_name(settings.experiment)
    (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    return sorted(point.step for point in client.get_metric_history(run.info.run_id, key))


def record_three_trials(recorder: Recorder) -> None:
    recorder.parent(recorder.opened())
    for slot in range(3):
        recorder.trial(slot)
    recorder.parent(recorder.progressed(summary(0), summary(1), summary(2)), recorder.closed())


def assert_shipped_once(settings: TrackingSettings) -> None:
    trials = ["trial 0", "trial 1", "trial 2"]
    assert statuses(settings) == dict.fromkeys(["sweep", *trials], "FINISHED")
    for trial in trials:
        assert steps(settings, trial, "loss") == [1, 2, 3]
        assert steps(settings, trial, "best_loss") == [0]


@pytest.mark.slow
def test_killed_again_and_again_it_ships_everything_once(
    recorder: Recorder, server: Server, started: list[Shipper]
) -> None:
    settings = replace(server.settings, experiment="killed")
    record_three_trials(recorder)
    for _ in range(3):
        shipper = Shipper(recorder.folder, settings)
        started.append(shipper)
        kill_once_it_gets_on(shipper, recorder.folder)
    last = Shipper(recorder.folder, settings)
    started.append(last)
    assert last.finish(lambda: LONGEST_S) == ExitCode.OK
    assert survey(recorder.folder).pending == 0
    assert_shipped_once(settings)


def test_a_lost_answer_repeats_nothing(
    recorder: Recorder, server: Server, started: list[Shipper]
) -> None:
    settings = replace(server.settings, experiment="lost-answers")
    record_three_trials(recorder)
    with dropping_answers(server.port) as (port, dropped):
        through = replace(settings, uri=f"http://127.0.0.1:{port}")
        shipper = Shipper(recorder.folder, through)
        started.append(shipper)
        assert shipper.finish(lambda: LONGEST_S) == ExitCode.OK
    assert dropped == {"runs/create", "runs/log-batch", "runs/log-inputs", "runs/update"}
    assert_shipped_once(settings)


@contextmanager
def dropping_answers(server_port: int) -> Iterator[tuple[int, set[str]]]:
    """A proxy that hangs up instead of passing on the first answer to each kind of change.

    Yields its port and the kinds of which an answer was dropped.
    """
    dropped: set[str] = set()

    class Proxy(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = HTTPConnection("127.0.0.1", server_port)
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            kind = "/".join(self.path.partition("?")[0].split("/")[-2:])
            if (
                kind
                in {"runs/create", "runs/log-batch", "runs/log-inputs", "runs/update"} - dropped
            ):
                dropped.add(kind)
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type", ""))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield proxy.server_port, dropped
        proxy.shutdown()
        thread.join()


@pytest.mark.slow
def test_events_wait_for_a_server_that_is_down(
    recorder: Recorder, stopped_server: Server, started: list[Shipper]
) -> None:
    recorder.parent(recorder.opened())
    shipper = Shipper(recorder.folder, stopped_server.settings)
    started.append(shipper)
    wait_until(lambda: "events wait in the spool" in shipper.log.read_text())
    recorder.trial(0)
    wait_until(lambda: shipper.pending == 8)
    stopped_server.start()
    wait_until(lambda: shipper.pending == 0)
    assert dict(shipper.poll()).keys() == {recorder.study_uid, recorder.uid(0)}
    assert shipper.poll() == []
    recorder.parent(recorder.closed())
    assert shipper.finish(lambda: LONGEST_S) == ExitCode.OK
    assert statuses(stopped_server.settings) == {"sweep": "FINISHED", "trial 0": "FINISHED"}
    assert shipper.log.read_text().count("events wait in the spool") == 1


@pytest.mark.slow
def test_it_gives_up_on_a_server_that_stays_away(
    recorder: Recorder, stopped_server: Server, started: list[Shipper]
) -> None:
    recorder.whole_study()
    shipper = Shipper(recorder.folder, stopped_server.settings, drain_timeout_s=0.5)
    started.append(shipper)
    assert shipper.finish(lambda: LONGEST_S) == ExitCode.UNAVAILABLE
    assert "giving up: 17 events wait in the spool" in shipper.log.read_text()
    assert survey(recorder.folder).pending == 17


def test_it_is_ended_when_a_store_that_never_answers_holds_it(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.tracking.shipping.shipper._STUCK_S", 0.1)
    monkeypatch.setattr("tuner.tracking.shipping.shipper._ENDING_S", 0.1)
    recorder.whole_study()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql://tuner@127.0.0.1:{silent.getsockname()[1]}/mlflow"
        shipper = Shipper(recorder.folder, TrackingSettings(address, str(tmp_path), "tuner"))
        with silent.accept()[0]:
            assert shipper.finish(lambda: math.inf) == -signal.SIGKILL
    assert shipper.pending == survey(recorder.folder).pending == 17


def test_a_server_that_drops_out_after_much_was_shipped_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One call may ship for minutes, and fail at its end."""
    now, pending, (reader, writer) = [0.0], [2], os.pipe()
    monkeypatch.setattr(shipper_process, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def ship(*, finishing: bool) -> int:
        now[0] += 100
        pending[0] -= 1
        raise UnavailableError(f"MLflow left, {finishing=}")

    shipper = SimpleNamespace(ship=ship, survey=lambda: Survey({}, pending[0]), dismissed=False)
    watch = SimpleNamespace(driver_gone=True, terminated=False, wait=lambda _: None)
    code = shipper_process.run(
        cast(StudyShipper, shipper),
        cast(shipper_process.DriverWatch, watch),
        shipper_process.Report(writer),
        drain_timeout_s=60.0,
    )
    os.close(writer)
    with os.fdopen(reader) as answers:
        assert [json.loads(line)["pending"] for line in answers] == [2, 1, 0]
    assert code == ExitCode.OK


def test_only_a_new_run_and_fewer_events_are_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(shipper_process, "time", SimpleNamespace(monotonic=lambda: now[0]))
    report = shipper_process.Report(os.open(os.devnull, os.O_WRONLY))
    for now[0], known, news_at in (
        (1.0, Survey({}, 5), 1.0),
        (2.0, Survey({}, 9), 1.0),
        (3.0, Survey({"uid": "run"}, 9), 3.0),
        (4.0, Survey({"uid": "run"}, 9), 3.0),
        (5.0, Survey({"uid": "run"}, 8), 5.0),
    ):
        report.tell(known)
        assert report.news_at == news_at


@pytest.mark.slow
def test_a_driver_that_dies_leaves_nothing_behind(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path
) -> None:
    recorder.parent(recorder.opened(), recorder.closed())
    code = (
        "import os, sys; from pathlib import Path; from tuner.tracking.settings import *;"
        "from tuner.tracking.shipping.shipper import Shipper;"
        "settings = TrackingSettings.from_environment(Path(sys.argv[2]), {});"
        "print(Shipper(Path(sys.argv[1]), settings).pid, flush=True); os._exit(9)"
    )
    command = [sys.executable, "-c", code, str(recorder.folder), str(tmp_path)]
    driver = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert driver.returncode == 9
    wait_until(lambda: not Path(f"/proc/{int(driver.stdout)}").exists())
    assert survey(recorder.folder).pending == 0
    assert statuses(local)["sweep"] == "FINISHED"


FORKS = """
import os, signal, sys
from pathlib import Path
if "tuner.tracking.shipping.shipper_process" in sys.orig_argv and not os.fork():
    Path(__file__).with_name("new").write_text(str(os.getpid()))
    Path(__file__).with_name("new").rename(Path(__file__).with_name("forked"))
    signal.pause()
"""


def test_one_that_dies_is_missed_though_what_it_forked_holds_the_pipe(
    tmp_path: Path, local: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(FORKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    shipper = Shipper(tmp_path / "study", local)
    wait_until((tmp_path / "forked").exists)
    os.kill(shipper.pid, signal.SIGKILL)
    wait_until(lambda: not shipper.alive)
    assert shipper.finish(lambda: 10) == -signal.SIGKILL
    wait_until(lambda: is_gone(int((tmp_path / "forked").read_text())))


@pytest.mark.slow
def test_ctrl_c_does_not_end_it_but_sigterm_does(
    recorder: Recorder, local: TrackingSettings, started: list[Shipper]
) -> None:
    recorder.parent(recorder.opened())
    shipper = Shipper(recorder.folder, local)
    started.append(shipper)
    wait_until(lambda: shipper.pending == 0)
    os.kill(shipper.pid, signal.SIGINT)
    recorder.attempt(0, 0, recorder.started(0))
    wait_until(lambda: recorder.uid(0) in survey(recorder.folder).runs)
    os.kill(shipper.pid, signal.SIGTERM)
    wait_until(lambda: not shipper.alive)
    assert shipper.finish(lambda: 10) == ExitCode.TERMINATED
    assert not (recorder.folder / "shipping").exists()


@pytest.mark.slow
def test_a_second_driver_learns_what_the_first_ones_shipper_does(
    recorder: Recorder, local: TrackingSettings, started: list[Shipper]
) -> None:
    first = StudyShipper(recorder.folder, local, lambda: True)
    first.ship()
    second = Shipper(recorder.folder, local)
    started.append(second)
    recorder.parent(recorder.opened())
    wait_until(lambda: second.pending == 1)
    first.ship()
    assert second.finish(lambda: LONGEST_S) == ExitCode.OK
    assert dict(second.poll()) == first.survey().runs != {}
    first.close()


@pytest.mark.slow
def test_it_reports_while_it_ships_and_never_imports_a_training_library(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.whole_study()
    code = (
        "import sys; from tuner.tracking.shipping import shipper_process;"
        "shipper_process._REPORT_S = 0;"
        "code = shipper_process.main(sys.argv[1:]);"
        "found = {'keras', 'tensorflow', 'jax', 'optuna'} & sys.modules.keys();"
        "sys.exit(f'found {found}' if found else code)"
    )
    options = ["--tracking-uri", local.uri, "--experiment", "tuner"]
    options += ["--artifact-root", local.artifact_root]
    done = subprocess.run(
        [sys.executable, "-c", code, str(recorder.folder), *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    pending = [each["pending"] for each in told if "pending" in each]
    assert pending == sorted(pending, reverse=True)
    assert (pending[0], pending[-1]) == (17, 0)
    assert len(pending) > 3, "one call ships everything"


def test_the_drivers_end_never_imports_mlflow() -> None:
    code = (
        "import sys, tuner.tracking.shipping.shipper, tuner.tracking.spool.spool;"
        "print('mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

"""The proof on a GPU, as far as a machine without one can show it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from benchmarks import machine
from benchmarks.harness import Result
from scripts import gpu_wheels
from scripts.gpu_proof import ROOT, Bench, Said, Step, results_of


def test_what_travels_is_locked_and_all_that_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    carried = gpu_wheels.carried()
    lines = gpu_wheels.locked(carried)
    assert all("==" in line and "--hash=sha256:" in line for line in lines.values())
    accounted = carried | gpu_wheels.PROVIDED | gpu_wheels.LEFT_OUT.keys()
    assert {canonicalize_name(each.name) for each in gpu_wheels.direct()} <= accounted

    provided = gpu_wheels.PROVIDED
    monkeypatch.setattr(gpu_wheels, "PROVIDED", set())
    assert provided <= gpu_wheels.carried(), "nothing is named idly"


def test_a_package_without_a_locked_version_is_named() -> None:
    with pytest.raises(SystemExit, match=r"has no no-such-package; run scripts/lock"):
        gpu_wheels.locked({"keras", "no-such-package"})


def test_without_a_gpu_nothing_is_run_and_nothing_is_called_gpu(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    where = ["--wheels", str(tmp_path / "wheels"), "--results", str(tmp_path / "results")]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.gpu_proof", *where],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "JAX found no GPU" in done.stderr
    (file,) = (tmp_path / "results").iterdir()
    assert file.name == "proof-cpu.json"
    report = json.loads(file.read_text())
    assert (report["device"], report["steps"]) == ("cpu", [])
    assert {"jax", "keras", "mlflow"} <= report["versions"].keys()


@pytest.mark.slow
def test_a_dry_run_passes_every_step_on_the_processor(tmp_path: Path) -> None:
    where = ["--wheels", str(tmp_path / "none"), "--results", str(tmp_path / "results")]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.gpu_proof", *where, "--dry-run"],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    logs = {file.stem: file.read_text() for file in (tmp_path / "results").glob("*.log")}
    assert done.returncode == 0, (done.stderr, logs)
    report = json.loads((tmp_path / "results" / "proof-cpu.json").read_text())
    assert (report["device"], report["dry_run"]) == ("cpu", True)
    steps = {step["step"]: step for step in report["steps"]}
    assert {name: step["outcome"] for name, step in steps.items()} == dict.fromkeys(
        ("contract", "study", "engine", "packing"), "passed"
    )
    assert steps["contract"]["tests"].startswith("1 passed")
    assert steps["study"]["promotion"]["promoted"]
    assert steps["study"]["counts"]["pruned"] == 1
    for benchmark in ("engine", "packing"):
        result = json.loads((tmp_path / "results" / f"{benchmark}-cpu.json").read_text())
        assert result["series"], result


@pytest.mark.slow
def test_a_backend_that_does_not_use_the_gpu_computes_on_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(machine, "gpu_names", lambda: ["a GPU"])
    machine.computes_on.cache_clear()
    result = Result("engine", {"backend": "jax"}, hardware={"gpus": ["a GPU"]})
    assert result.device == "cpu"
    machine.computes_on.cache_clear()


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def refused(_said: Sequence[Said]) -> dict[str, object]:
    raise ValueError("must prune")


class Few(Bench):
    def steps(self) -> Sequence[Sequence[Step]]:
        return (
            (
                Step("hangs", [["sh", "-c", "echo here; sleep 99"]], 2),
                Step("fails", [command("raise LookupError('no')"), command("print('never')")], 60),
            ),
            (Step("refused", [command("pass")], 60, findings=refused),),
            (
                Step("passes", [command("print(6 * 7)")], 60, findings=lambda said: {
                    "answer": said[0].out.strip()
                }),
            ),
        )  # fmt: skip


def test_a_step_that_hangs_or_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    began = time.monotonic()
    bench = Few(tmp_path, tmp_path, os.environ, device="cpu", dry=False, began=began)
    found = {each["step"]: each for each in results_of(bench)}
    assert found["hangs"]["outcome"] == "not ended within 2 s"
    assert found["fails"]["outcome"].endswith("exit status 1: LookupError: no")
    assert found["refused"]["outcome"] == "failed: must prune"
    assert (found["passes"]["outcome"], found["passes"]["answer"]) == ("passed", "42")
    assert "here" in (tmp_path / "hangs.log").read_text()
    assert "never" not in (tmp_path / "fails.log").read_text()
    assert [each["step"] for each in results_of(bench, ["passes"])] == ["passes"]

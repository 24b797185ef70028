"""What git is asked about the folder of a study, and what it must not run or tell."""

import subprocess
from pathlib import Path

import pytest

from tuner.home import Home
from tuner.recording.provenance import provenance

PROGRAMS = {
    "core.fsmonitor": "{program}",
    "core.hooksPath": "{hooks}",
    "core.pager": "{program}",
    "diff.external": "{program}",
    "diff.shown.textconv": "{program}",
    "diff.shown.command": "{program}",
    "filter.shown.clean": "{program}",
    "filter.shown.process": "{program}",
    "filter.shown.required": "true",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A work tree with a file that was changed after its revision."""
    folder = tmp_path / "tree"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "settings.py").write_text("PASSWORD = ''\n")
    (folder / ".gitattributes").write_text("*.py diff=shown filter=shown\n")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "one")
    (folder / "settings.py").write_text("PASSWORD = 'hunter2'\n")
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)


def test_git_runs_no_program_that_the_folder_configures(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof, hooks = tmp_path / "it-ran", tmp_path / "hooks"
    hooks.mkdir()
    program, hook = tmp_path / "program", hooks / "post-index-change"
    for script in (program, hook):
        script.write_text(f"#!/bin/sh\necho $0 >> {proof}\nexit 1\n")
        script.chmod(0o700)
    for name, value in PROGRAMS.items():
        git(tree, "config", name, value.format(program=program, hooks=hooks))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(program))
    monkeypatch.setenv("TUNER_RECORD_DIFF", "1")

    found = provenance(tree)

    assert not proof.exists()
    assert "+PASSWORD = 'hunter2'" in found.uncommitted
    assert found.dirty


@pytest.fixture
def lacking(tree: Path) -> Path:
    """The work tree whose repository lacks an object, so that it cannot be compared."""
    shown = subprocess.check_output(["git", "-C", str(tree), "rev-parse", "HEAD^{tree}"], text=True)
    (tree / ".git" / "objects" / shown[:2] / shown[2:].strip()).unlink()
    return tree


def test_git_fetches_no_missing_object_of_a_partial_clone(lacking: Path, tmp_path: Path) -> None:
    """How it would be fetched is named in the folder's configuration: by a command, here."""
    proof = tmp_path / "it-ran"
    settings = {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::sh -c touch% {proof}",
        "protocol.ext.allow": "always",
    }
    for name, value in settings.items():
        git(lacking, "config", name, value)
    provenance(lacking)
    assert not proof.exists()


def test_a_tree_that_git_cannot_compare_counts_as_dirty(lacking: Path) -> None:
    assert provenance(lacking).tags()["tuner.git.dirty"] == "true"


def test_uncommitted_changes_are_recorded_only_on_request(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = provenance(tree)
    assert (found.uncommitted, found.tags()["tuner.git.dirty"]) == ("", "true")

    git(tree, "checkout", "--quiet", "settings.py")
    assert provenance(tree).tags()["tuner.git.dirty"] == "false"
    (tree / "new.py").touch()
    assert provenance(tree).dirty
    monkeypatch.setenv("TUNER_RECORD_DIFF", "1")
    assert provenance(tree).uncommitted == ""


def test_code_outside_git_has_no_revision(home: Home) -> None:
    found = provenance(home.root)

    assert (found.revision, found.uncommitted) == ("", "")
    assert "mlflow.source.git.commit" not in found.tags()

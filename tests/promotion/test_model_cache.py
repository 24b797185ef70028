"""The cache of fetched models."""

from pathlib import Path

from tuner.models.model_file import sha256_of
from tuner.promotion.registry.model_cache import cached


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_the_cache_downloads_once_and_repairs_what_was_damaged(
    model_file: Path, tmp_path: Path
) -> None:
    downloads: list[Path] = []

    def download(folder: Path) -> Path:
        downloads.append(folder)
        return written(folder / "any-name", model_file.read_bytes())

    sha256 = sha256_of(model_file)
    first = cached(tmp_path, sha256, "here", download)
    assert cached(tmp_path, sha256, "here", download) == first
    assert len(downloads) == 1
    first.write_bytes(b"rubbish")
    assert cached(tmp_path, sha256, "here", download).read_bytes() == model_file.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {".lock", f"{sha256}.keras"}

"""The manifest in the documents is one that Kubernetes takes."""

from pathlib import Path

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

MANIFESTS = Path(__file__).parents[2] / "docs" / "kubernetes"


@pytest.mark.parametrize("file", sorted(MANIFESTS.glob("*.yaml")), ids=lambda file: file.name)
def test_a_manifest_is_valid(file: Path) -> None:
    objects = list(YAML(typ="safe").load_all(file))
    assert objects
    for each in objects:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)

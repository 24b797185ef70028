"""Reads committed results back, for the chart and for the documents."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.samples import Ratio, Series


@dataclass(frozen=True)
class Committed:
    """A result file; `content` is all of it, as `harness.Result` wrote it."""

    content: dict[str, Any]
    series: tuple[Series, ...]
    ratios: tuple[Ratio, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """What was run."""
        settings: dict[str, Any] = self.content["settings"]
        return settings

    @property
    def measures(self) -> list[str]:
        """Every measure once, in the order of the file."""
        return list(dict.fromkeys(one.measure for one in self.series))

    @property
    def subjects(self) -> list[str]:
        """Every subject once, in the order of the file."""
        return list(dict.fromkeys(one.subject for one in self.series))

    def of(self, measure: str) -> dict[str, Series]:
        """The series of a measure, by subject."""
        return {one.subject: one for one in self.series if one.measure == measure}

    def ratios_of(self, subject: str, measure: str) -> list[Ratio]:
        """The subject's ratios, the one against the first base first."""
        return [one for one in self.ratios if (one.subject, one.measure) == (subject, measure)]

    def machine(self) -> str:
        """Processor, cores, memory, GPU and TensorFlow's version in a line."""
        hardware, versions = self.content["hardware"], self.content["versions"]
        used = hardware["gpus"] if hardware.get("device") != "cpu" else []
        gpus = "".join(f", {name}" for name in used)
        return (
            f"{hardware['cpu']} (family/model {hardware['family_model']}), "
            f"{hardware['cores']} cores, {hardware['memory_gb']:.0f} GB{gpus}, "
            f"TensorFlow {versions.get('tensorflow', 'not installed')}"
        )


def read(path: Path) -> Committed | None:
    """The result in a file, or None where there is none."""
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return Committed(
        content,
        tuple(
            Series(one["subject"], one["measure"], one["unit"], tuple(one["samples"]))
            for one in content["series"]
        ),
        tuple(
            Ratio(one["subject"], one["base"], one["measure"], tuple(one["samples"]))
            for one in content["ratios"]
        ),
    )

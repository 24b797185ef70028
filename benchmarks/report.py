"""Writes the tables of docs/benchmarks.md and docs/paper.md from the committed results.

    python -m benchmarks.report [--check]

Whatever stands between `<!-- result NAME -->` and `<!-- /result -->` is replaced by the tables
of `results/NAME-cpu.json` and `results/NAME-gpu.json`, and what stands between `<!-- claims -->`
and `<!-- /claims -->` by the table of `benchmarks.claims`. `--check` changes nothing and ends with
status 1 where a document is not what the results say.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import claims
from benchmarks.committed import Committed, read
from benchmarks.harness import RESULTS, console
from benchmarks.process import ROOT
from benchmarks.samples import Ratio

DOCUMENTS = [ROOT / "docs/benchmarks.md", ROOT / "docs/paper.md"]
_PLACE = re.compile(r"(<!-- result ([\w-]+) -->\n).*?(<!-- /result -->)", re.DOTALL)
_CLAIMS = re.compile(r"(<!-- claims -->\n).*?(<!-- /claims -->)", re.DOTALL)


def main() -> int:
    """Renews the documents, or says whether they are up to date; returns the exit status."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--results", type=Path, default=RESULTS)
    arguments.add_argument("--document", type=Path, nargs="*", default=DOCUMENTS)
    asked = arguments.parse_args()
    stale = [each for each in asked.document if _is_stale(each, asked.results, asked.check)]
    for document in stale:
        console.print(f"{document} is not what the results say; run benchmarks.report")
    return int(bool(stale))


def _is_stale(document: Path, results: Path, check: bool) -> bool:
    """Renews a document, or returns whether that is needed."""
    before = document.read_text(encoding="utf-8")
    after = _PLACE.sub(lambda found: _filled(found, results), before)
    after = _CLAIMS.sub(lambda found: f"{found[1]}{claims.table(results)}{found[2]}", after)
    if not check:
        document.write_text(after, encoding="utf-8")
    return check and before != after


def _filled(place: re.Match[str], results: Path) -> str:
    begin, name, end = place.groups()
    found = [read(results / f"{name}-{device}.json") for device in ("cpu", "gpu")]
    tables = [markdown(result) for result in found if result is not None]
    return f"{begin}{chr(10).join(tables) or 'Not measured yet.' + chr(10)}{end}"


def markdown(result: Committed) -> str:
    """A result as a table, a row a subject and a column a measure, and what it ran on."""
    measures = result.measures
    lines = [
        f"| | {' | '.join(measures)} |",
        f"|---|{'---|' * len(measures)}",
        *(
            f"| {subject} | {' | '.join(_cell(result, subject, one) for one in measures)} |"
            for subject in result.subjects
        ),
        "",
        *_against(result),
        *_means(result),
        *(f"Skipped: {name} ({why}).\n" for name, why in result.content["skipped"].items()),
        f"*{_origin(result)}*",
        "",
    ]
    return "\n".join(lines)


def _cell(result: Committed, subject: str, measure: str) -> str:
    series = result.of(measure).get(subject)
    if series is None:
        return ""
    low, high = min(series.samples), max(series.samples)
    cell = f"{_number(series.median)} {series.unit}".strip()
    if len(series.samples) > 1:
        cell += f" ({_number(low)} to {_number(high)})"
    ratios = result.ratios_of(subject, measure)
    return f"{cell}, **{ratios[0].median:.2f}x**" if ratios else cell


def _against(result: Committed) -> Iterator[str]:
    """A line for each subject that was compared with more than one base."""
    for measure in result.measures:
        for subject in result.subjects:
            ratios = result.ratios_of(subject, measure)
            if len(ratios) > 1:
                told = (f"{_ratio(one)} {one.base}" for one in ratios)
                yield f"{subject}, times as fast: {'; '.join(told)}.\n"


def _means(result: Committed) -> Iterator[str]:
    """A line for each fact that is a mean with its interval."""
    for name, fact in result.content["facts"].items():
        if isinstance(fact, dict) and fact.keys() == {"mean", "low", "high"}:
            mean, low, high = (f"{fact[key]:+.5f}" for key in ("mean", "low", "high"))
            yield f"{name}: **{mean}** (95% interval {low} to {high}).\n"


def _ratio(ratio: Ratio) -> str:
    low, high = min(ratio.samples), max(ratio.samples)
    return f"**{ratio.median:.2f}** ({low:.2f} to {high:.2f})"


def _number(value: float) -> str:
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.3g}"


def _origin(result: Committed) -> str:
    content = result.content
    settings = ", ".join(f"{key} {value}" for key, value in result.settings.items())
    short = "short form, " if content["short"] else ""
    return (
        f"n = {content['rounds']}; {short}{settings}. {result.machine()}; "
        f"{content['measured_at'][:10]}, revision {content['revision']}."
    )


if __name__ == "__main__":
    sys.exit(main())

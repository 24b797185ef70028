"""Prints the Python API reference from the docstrings, as Markdown; scripts/docs keeps it.

The functions are those that `tuner` exports. The classes are those that a caller gets from them
or passes to them. A class is found by its name, wherever in the package it is defined.
"""

from collections.abc import Iterator
from typing import TypeVar

from griffe import (
    Alias,
    Attribute,
    Class,
    DocstringSection,
    DocstringSectionKind,
    Function,
    GriffeLoader,
    Module,
    Object,
    ParameterKind,
    Parser,
)

FUNCTIONS = (
    "run_study",
    "load_study",
    "confirm",
    "promote",
    "evaluate",
    "registered_models",
    "promotion_history",
    "rollback",
    "verify",
    "looks",
)
CLASSES = {
    "Study": None,
    "StudySummary": None,
    "PointSummary": None,
    "TrialSummary": None,
    "PromotionReport": None,
    "GateResult": None,
    "TestSetUse": None,
    "TestEvaluation": None,
    "ClassScores": None,
    "Verification": None,
    "Agreement": None,
    "FirstDifference": None,
    "Spread": None,
    "Change": None,
    "TestSetAccess": None,
    "Dataset": None,
    "Split": None,
    "Reading": ("fit", "background", "recentre"),
    "Home": ("root", "from_environment"),
}
"""And which members a caller needs; None stands for all public ones."""
ERRORS = ("TunerError", "RefusedError", "UsageError", "UnavailableError", "DataError", "ModelError")
_LINE_LENGTH = 88
_INTRODUCTION = """\
<!-- Written by scripts/docs from the docstrings; edits are lost. -->

# Python API

The functions do what the commands do, for programs. `import tuner` is quick: each function
imports what it needs when it is called.

```python
import tuner

summary = tuner.run_study("studies/quickstart.yaml", name="from-python", trials=3)
print(summary.counts, summary.best)
with tuner.load_study("from-python") as study:
    print(study.importance())
report = tuner.promote("from-python", dry_run=True)
print(report.passed, report.metrics["test_accuracy"])
```
"""
_TITLES = {
    DocstringSectionKind.parameters: "Arguments",
    DocstringSectionKind.returns: "Returns",
    DocstringSectionKind.raises: "Raises",
}
_Kind = TypeVar("_Kind", Function, Class)


def main() -> None:
    """Prints the page."""
    package = GriffeLoader(docstring_parser=Parser.google, search_paths=["."]).load("tuner")
    assert isinstance(package, Module)
    print(_INTRODUCTION)
    print("## Functions\n")
    for name in FUNCTIONS:
        print("\n".join(_function(_found(package, Function, name), f"### `tuner.{name}`")))
    print("## What they return and take\n")
    for name, members in CLASSES.items():
        print("\n".join(_class(_found(package, Class, name), members)))
    print("## Errors\n")
    for name in ERRORS:
        print("\n".join(_class(_found(package, Class, name), None)))


def _found(package: Module, kind: type[_Kind], name: str) -> _Kind:
    """The definition of that name; of two the one in `tuner.api`."""
    found = [each for each in _definitions(package) if isinstance(each, kind) and each.name == name]
    return min(found, key=lambda each: each.module.name != "api")


def _definitions(module: Module) -> Iterator[Object]:
    for member in module.members.values():
        if isinstance(member, Module):
            yield from _definitions(member)
        elif isinstance(member, Function | Class):
            yield member


def _class(described: Class, wanted: tuple[str, ...] | None) -> Iterator[str]:
    """Its docstring, its fields and properties as a list, and its methods."""
    yield f"### `{described.name}`\n"
    yield f"`{described.path}`\n"
    yield from _text(described)
    found = [
        each.final_target if isinstance(each, Alias) else each
        for each in _members(described, wanted)
    ]
    fields = [_field(each) for each in found if isinstance(each, Attribute) and each.annotation]
    yield from [*fields, ""] if fields else []
    for each in found:
        if isinstance(each, Function) and each.docstring:
            yield from _function(each, f"#### `{described.name}.{each.name}`")


def _members(described: Class, wanted: tuple[str, ...] | None) -> list[Object | Alias]:
    members = described.all_members
    public = [name for name in members if not name.startswith("_")]
    return [members[name] for name in wanted or public]


def _field(field: Attribute) -> str:
    said = " ".join(field.docstring.value.split()) if field.docstring else ""
    return f"- `{field.name}: {field.annotation}`" + (f": {said}" if said else "")


def _function(described: Function, heading: str) -> Iterator[str]:
    """Its signature and docstring."""
    yield f"{heading}\n"
    yield f"```python\n{_signature(described)}\n```\n"
    yield from _text(described)


def _signature(described: Function) -> str:
    """In one line, or with a parameter a line where that is too long."""
    line = described.signature()
    if len(line) <= _LINE_LENGTH:
        return str(line)
    start, _, _ = line.partition("(")
    parameters = "".join(f"    {each},\n" for each in _parameters(described))
    return f"{start}(\n{parameters}) -> {described.returns}"


def _parameters(described: Function) -> Iterator[str]:
    """The parameters of a function, none of which are positional and variable in number."""
    stars = {ParameterKind.var_keyword: "**"}
    keyword_only = False
    for each in described.parameters:
        if each.kind is ParameterKind.keyword_only and not keyword_only:
            keyword_only = True
            yield "*"
        default = "" if each.default is None or each.kind in stars else f" = {each.default}"
        yield f"{stars.get(each.kind, '')}{each.name}: {each.annotation}{default}"


def _text(described: Object) -> Iterator[str]:
    for section in described.docstring.parsed if described.docstring else []:
        if section.kind is DocstringSectionKind.text:
            yield f"{section.value}\n"
        else:
            yield from _section(section)


def _section(section: DocstringSection) -> Iterator[str]:
    """Arguments and the like, as a list; `section.value` holds the entries."""
    yield f"**{_TITLES[section.kind]}**\n"
    for entry in section.value:
        name = entry.annotation if section.kind is DocstringSectionKind.raises else entry.name
        yield f"- {f'`{name}`: ' if name else ''}{' '.join(entry.description.split())}"
    yield ""


if __name__ == "__main__":
    main()

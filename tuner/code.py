"""The user's code that a study depends on, as text, and the difference of two versions.

Modules are read, never run. Imports, also inside functions, are followed into the study's code
folders and into the packages of the named modules, but not into other packages such as Keras or
the standard library. An import whose name is computed at run time is not found.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from difflib import unified_diff
from importlib.util import find_spec, resolve_name
from itertools import accumulate, islice
from pathlib import Path

_MOST_LINES = 60
_OURS = "tuner"


def code_of(modules: Iterable[str], folders: Iterable[Path]) -> dict[str, str]:
    """Reads the modules, and everything that they import from the folders.

    Args:
        modules: dotted names.
        folders: the folders of the study's own modules; other files in them are ignored.

    Returns:
        The text of each file, by its path with `/` relative to the folder that it is imported
        from, sorted.
    """
    code_path = list(folders)
    seen = {name for name in modules if _head(name) != _OURS}
    places = {head: _places(head, code_path) for head in map(_head, seen)}
    waiting, found = list(seen), {}
    while waiting:
        name = waiting.pop()
        for path, text, imports in _read(name, places.get(_head(name), code_path)):
            found[path] = text
            fresh = {each for each in imports if _head(each) != _OURS} - seen
            waiting += fresh
            seen |= fresh
    return dict(sorted(found.items()))


def of_modules(code: Mapping[str, str], modules: Iterable[str]) -> dict[str, str]:
    """Returns only the files of these modules."""
    stems = {name.replace(".", "/") for name in modules}
    files = {f"{stem}{end}" for stem in stems for end in (".py", "/__init__.py")}
    return {path: text for path, text in code.items() if path in files}


def imported_otherwise(code: Mapping[str, str]) -> list[str]:
    """Returns the names of the modules that this process has imported with another text."""
    names = {path: path.removesuffix(".py").removesuffix("/__init__") for path in code}
    dotted = {path: name.replace("/", ".") for path, name in names.items()}
    return [
        name
        for path, name in dotted.items()
        if name in sys.modules and _imported_text(name) != code[path]
    ]


def _imported_text(name: str) -> str | None:
    file = getattr(sys.modules[name], "__file__", None)
    return Path(file).read_text(encoding="utf-8", errors="replace") if file else None


def digest(code: Mapping[str, str]) -> str:
    """Returns the SHA-256 of paths and texts, in hexadecimal; empty if there is no code."""
    if not code:
        return ""
    parts = (f"{path}\n{_sha256(text)}\n" for path, text in sorted(code.items()))
    return _sha256("".join(parts))


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns the paths of the files that differ, are new or are gone, sorted."""
    return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Returns the changes as a unified diff of at most 60 lines; empty if there are none."""
    lines = list(islice(_changed_lines(before, now), _MOST_LINES + 1))
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = ["..."]
    return "\n".join(lines)


def _changed_lines(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for path in changed_files(before, now):
        old, new = (code.get(path, "").splitlines() for code in (before, now))
        yield from unified_diff(old, new, f"{path} before", f"{path} now", lineterm="")


def _read(name: str, folders: Iterable[Path]) -> Iterator[tuple[str, str, set[str]]]:
    """Yields path, text and imports of a module, if it exists, and of its parent packages."""
    below = list(folders)
    for part in accumulate(name.split("."), "{}.{}".format):
        inside = part.replace(".", "/")
        if file := _first(folder / f"{inside}/__init__.py" for folder in below):
            yield _entry(f"{inside}/__init__.py", file, part)
        elif file := _first(folder / f"{inside}.py" for folder in below):
            yield _entry(f"{inside}.py", file, part.rpartition(".")[0])
            return
        elif not any((folder / inside).is_dir() for folder in below):
            return


def _first(files: Iterable[Path]) -> Path | None:
    return next((file for file in files if file.is_file()), None)


def _entry(path: str, file: Path, package: str) -> tuple[str, str, set[str]]:
    text = file.read_text(encoding="utf-8", errors="replace")
    return path, text, _imports(text, package)


def _places(head: str, folders: list[Path]) -> list[Path]:
    """The folders from which a named top-level module is imported."""
    spec = find_spec(head)
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        return folders
    if spec.submodule_search_locations:
        return [Path(each).parent for each in spec.submodule_search_locations]
    return [Path(str(spec.origin)).parent]


def _imports(text: str, package: str) -> set[str]:
    """The modules that a text may import; none if the text is not valid Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return set()
    return {name for node in ast.walk(tree) for name in _imported_by(node, package)}


def _imported_by(node: ast.AST, package: str) -> Iterator[str]:
    """Yields the modules that a node may import. `from a import b` may mean the module `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = f"{'.' * node.level}{node.module or ''}"
        try:
            base = resolve_name(module, package)
        except ImportError:  # beyond the outermost package
            return
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _head(name: str) -> str:
    return name.partition(".")[0]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

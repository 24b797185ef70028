"""The user's code that a study depends on, as text: what it is, and how two states differ.

Modules are read, never run. Followed are imports, those
inside functions too, into the study's code folders and into the packages of the modules asked
for. Anything else, Keras and the standard library included, is another package's business. A
module whose name is computed when the code runs is not seen.
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
    """Path and text of the modules, and of all that they import from the folders.

    Args:
        modules: dotted names.
        folders: where the study's own modules are; may hold other files.

    Returns:
        Text by path with `/`, relative to the folder that it is imported from, sorted.
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
    """The files of these modules alone."""
    stems = {name.replace(".", "/") for name in modules}
    files = {f"{stem}{end}" for stem in stems for end in (".py", "/__init__.py")}
    return {path: text for path, text in code.items() if path in files}


def imported_otherwise(code: Mapping[str, str]) -> list[str]:
    """The names of these files' modules that this process has imported with another text."""
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
    """SHA-256 of paths and texts, in hexadecimal; empty where there is no code."""
    if not code:
        return ""
    parts = (f"{path}\n{_sha256(text)}\n" for path, text in sorted(code.items()))
    return _sha256("".join(parts))


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What was changed, as a unified diff of sixty lines at most; empty where nothing was."""
    lines = list(islice(_changed_lines(before, now), _MOST_LINES + 1))
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = ["..."]
    return "\n".join(lines)


def _changed_lines(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for path in sorted({*before, *now}):
        old, new = (code.get(path, "").splitlines() for code in (before, now))
        yield from unified_diff(old, new, f"{path} before", f"{path} now", lineterm="")


def _read(name: str, folders: Iterable[Path]) -> Iterator[tuple[str, str, set[str]]]:
    """Path, text and imports of the module, if it is there, and of the packages it is in."""
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
    """The folders that a top-level module asked for is imported from."""
    spec = find_spec(head)
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        return folders
    if spec.submodule_search_locations:
        return [Path(each).parent for each in spec.submodule_search_locations]
    return [Path(str(spec.origin)).parent]


def _imports(text: str, package: str) -> set[str]:
    """The modules that a text may import; a text that is no Python imports nothing."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return set()
    return {name for node in ast.walk(tree) for name in _imported_by(node, package)}


def _imported_by(node: ast.AST, package: str) -> Iterator[str]:
    """`from a import b` may mean the module `a.b`."""
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

"""Prints the size of the code, its longest parts and its import violations.

    python scripts/measure_code.py

Lines of code exclude blank lines, comments and docstrings. The layers come from tests/test_layering.py. The
script only reports; no number makes it fail.
"""

import ast
import importlib
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))

# Imported by name, because the tests are not typed.
layering: Any = importlib.import_module("tests.test_layering")
FOLDERS = ("segjax", "scripts", "configs")
LONG_FUNCTION, LONG_FILE, MANY_PARAMETERS = 60, 300, 8
# Words that are old-fashioned, or that can be read in two ways.
BANNED = "found|anew|lest|likeness|torn|beheld"
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """A source file: path, text, syntax tree and the numbers of its lines of code."""

    path: Path
    text: str
    tree: ast.Module
    code: frozenset[int]

    @property
    def name(self) -> str:
        """Path relative to the repository root."""
        return str(self.path.relative_to(ROOT))


def read(path: Path) -> Source:
    """Reads and parses a source file."""
    text = path.read_text()
    tree = ast.parse(text)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {
        line
        for token in tokens
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    return Source(path, text, tree, frozenset(lines - docstring_lines(tree)))


def docstring_lines(tree: ast.Module) -> set[int]:
    """Returns the numbers of the lines of all docstrings."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node, clean=False):
            lines.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def sizes(sources: list[Source]) -> Iterator[str]:
    """Yields the lines of code and the files of each folder, and the totals of core and datasets."""
    lines: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for source in sources:
        parts = source.path.relative_to(ROOT).parts
        names = [str(Path(*parts[:-1]))]
        if parts[0] == "segjax":
            names.append("datasets" if parts[1] == "datasets" else "core")
        for name in names:
            lines[name] += len(source.code)
            files[name] += 1
    totals = {"core": "core: segjax without datasets", "datasets": "datasets: all of segjax/datasets"}
    for name in sorted(lines, key=lambda name: (name in totals, name)):
        yield f"{lines[name]:7,} lines {files[name]:4} files  {totals.get(name, name)}"


def long_functions(source: Source) -> Iterator[str]:
    """Yields functions above `LONG_FUNCTION` lines of code, and public ones above `MANY_PARAMETERS`."""
    for node in ast.walk(source.tree):
        if isinstance(node, Function):
            count = len(source.code.intersection(range(node.lineno, (node.end_lineno or 0) + 1)))
            if count > LONG_FUNCTION:
                yield f"{source.name}:{node.lineno} {node.name}: {count} lines"
            args = node.args
            count = len(args.posonlyargs + args.args + args.kwonlyargs)
            if count > MANY_PARAMETERS and not node.name.startswith("_"):
                yield f"{source.name}:{node.lineno} {node.name}: {count} parameters"


def long_files(source: Source) -> Iterator[str]:
    """Yields the file if it has more than `LONG_FILE` lines."""
    count = len(source.text.splitlines())
    if count > LONG_FILE:
        yield f"{source.name}: {count} lines"


def banned_words(source: Source) -> Iterator[str]:
    """Yields the lines that contain a banned word."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if re.search(rf"\b({BANNED})\b", line) and source.path != Path(__file__):
            yield f"{source.name}:{number} {line.strip()}"


def circles(sources: list[Source]) -> Iterator[str]:
    """Yields import cycles as chains of module names."""
    modules = {module_name(source.path): source for source in sources}
    imports = {
        name: sorted(
            {module for module in layering.imported_modules(source.path) if module in modules} - {name}
        )
        for name, source in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> Iterator[str]:
        if name in way:
            yield " -> ".join([*way[way.index(name) :], name])
        elif name not in done:
            for other in imports[name]:
                yield from visit(other, [*way, name])
            done.add(name)

    for name in modules:
        yield from visit(name, [])


def module_name(path: Path) -> str:
    """Returns the import name of a file: suites are imported from scripts/, configs as segjax.configs."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "scripts":
        parts = parts[1:]
    elif parts[0] == "configs":
        parts = ["segjax", *parts]
    return ".".join(parts).removesuffix(".__init__")


def upward(source: Source) -> Iterator[str]:
    """Yields imports that do not go to a lower layer."""
    if source.path.is_relative_to(ROOT / "segjax"):
        yield from layering.upward_imports(source.path, "segjax", layering.FLOORS)
    if source.path.is_relative_to(ROOT / "segjax/datasets"):
        yield from layering.upward_imports(source.path, "segjax.datasets", layering.DATASET_FLOORS)


def main() -> None:
    """Prints all figures."""
    sources = [read(path) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    print("\n".join(sizes(sources)))
    package = [source for source in sources if source.path.is_relative_to(ROOT / "segjax")]
    lists = {
        f"functions above {LONG_FUNCTION} lines of code, public ones above {MANY_PARAMETERS} parameters": [
            line for source in sources for line in long_functions(source)
        ],
        f"files above {LONG_FILE} lines": [line for source in sources for line in long_files(source)],
        "import circles": list(circles(sources)),
        "upward imports": [line for source in sources for line in upward(source)],
        f"lines with {BANNED.replace('|', ', ')}": [
            line for source in package for line in banned_words(source)
        ],
    }
    for title, lines in lists.items():
        print(f"\n{title}: {len(lines)}", *lines, sep="\n  ")


if __name__ == "__main__":
    main()

"""Reads every import of segjax and holds it against the floors."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up; the packages of one floor never import each other.
FLOORS = (
    ("typing", "errors", "files"),
    ("segmentation",),
    ("ops",),
    ("models", "losses", "metrics", "classical", "data"),
    ("tasks", "datasets", "evaluation"),
    ("train", "inference", "report"),
    ("experiment",),
    ("cli",),
)
# Inside `segjax.datasets`, likewise.
DATASET_FLOORS = (
    ("downloads", "archives", "arrays", "packages"),
    ("formats", "checks"),
    ("splits",),
    ("store",),
    ("public", "folder"),
    ("sources",),
    ("synthetic",),
    ("catalog",),
)
FORBIDDEN_NAMES = {"utils", "util", "common", "misc", "helpers", "helper"}
SOURCES = sorted((ROOT / "segjax").rglob("*.py"))
DATASETS = sorted((ROOT / "segjax/datasets").rglob("*.py"))


def imported(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def check_floors(path: Path, package: str, floors: tuple[tuple[str, ...], ...]) -> None:
    """Checks that a file of `package` imports only from floors of `package` below its own."""
    floor_of = {name: floor for floor, names in enumerate(floors) for name in names}

    def part(module: str) -> str | None:
        """`ops` for `segjax.ops.boxes`."""
        name = module.removeprefix(f"{package}.").split(".")[0]
        return name if module.startswith(f"{package}.") and name in floor_of else None

    home = path.relative_to(ROOT / package.replace(".", "/")).parts[0].removesuffix(".py")
    if home == "__init__":
        assert not any(part(module) for module in imported(path)), f"`import {package}` stays light"
        return
    assert home in floor_of, f"{home} has no floor: give it one"
    for module in imported(path):
        other = part(module)
        if other not in (None, home):
            assert floor_of[other] < floor_of[home], f"{path} imports {module}, which is not below it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_from_floors_below(path):
    check_floors(path, "segjax", FLOORS)


@pytest.mark.parametrize("path", DATASETS, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_of_data_sets_only_from_floors_below(path):
    check_floors(path, "segjax.datasets", DATASET_FLOORS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_models_import_flax_and_nothing_imports_tensorflow(path):
    packages = {module.split(".")[0] for module in imported(path)}
    assert "tensorflow" not in packages
    assert "models" in path.relative_to(ROOT / "segjax").parts or "flax" not in packages


def test_configs_import_nothing_of_segjax():
    for path in (ROOT / "configs").glob("*.py"):
        assert not any(module.split(".")[0] == "segjax" for module in imported(path)), path


def test_every_file_has_a_name_that_says_what_is_in_it():
    names = {part for path in SOURCES for part in path.with_suffix("").relative_to(ROOT).parts}
    assert not names & FORBIDDEN_NAMES

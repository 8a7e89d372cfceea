"""Every import of segjax leads to a lower floor."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up; the packages of one floor never import each other.
FLOORS = (
    ("typing", "errors", "files"),
    ("segmentation", "settings"),
    ("ops",),
    ("models", "losses", "metrics", "classical", "data", "tracking"),
    ("representations",),
    ("tasks", "datasets", "evaluation"),
    ("train", "inference", "report"),
    ("experiment",),
    ("ablation", "serving"),
    ("cli",),
    ("__main__",),
)
# The floors inside `segjax.datasets`.
DATASET_FLOORS = (
    ("downloads", "archives", "arrays", "packages"),
    ("formats",),
    ("checks",),
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


def imported_modules(path: Path, *, type_checking: bool = True):
    """Yields what a file imports, also inside functions, and inside `if TYPE_CHECKING:` if asked for."""
    tree = ast.parse(path.read_text())
    if not type_checking:
        tree.body = [
            node
            for node in tree.body
            if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward_imports(path: Path, package: str, floors: tuple[tuple[str, ...], ...]):
    """Yields the imports of a file of `package` that do not lead to a lower floor of `package`."""
    floor_of = {name: floor for floor, names in enumerate(floors) for name in names}
    home = path.relative_to(ROOT / package.replace(".", "/")).parts[0].removesuffix(".py")
    if home == "__init__":
        for module in imported_modules(path, type_checking=False):
            if module.startswith(f"{package}."):
                yield f"{path} imports {module}: `import {package}` stays light"
        return
    assert home in floor_of, f"{home} has no floor: give it one"
    for module in imported_modules(path):
        other = module.removeprefix(f"{package}.").split(".")[0]
        inside = module.startswith(f"{package}.") and other in floor_of and other != home
        if inside and floor_of[other] >= floor_of[home]:
            yield f"{path} imports {module}, which is not below it"
        # Only the command and what reads configs by their names may know where they are.
        if module.split(".")[:2] in (["segjax", "configs"], ["segjax", "scripts"]):
            yield f"{path} imports {module}: nothing in segjax knows a config"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_from_floors_below(path):
    assert list(upward_imports(path, "segjax", FLOORS)) == []


@pytest.mark.parametrize("path", DATASETS, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_of_data_sets_only_from_floors_below(path):
    assert list(upward_imports(path, "segjax.datasets", DATASET_FLOORS)) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_models_import_flax_and_nothing_imports_tensorflow(path):
    packages = {module.split(".")[0] for module in imported_modules(path)}
    assert "tensorflow" not in packages
    assert "models" in path.relative_to(ROOT / "segjax").parts or "flax" not in packages


def test_configs_import_each_other_and_settings_that_know_no_config():
    below = {name for floor in FLOORS[: FLOORS.index(("experiment",))] for name in floor} | {"configs"}
    paths = [*(ROOT / "configs").rglob("*.py")]
    assert len(paths) > 20
    for path in paths:
        modules = [module for module in imported_modules(path) if module.startswith("segjax.")]
        # Sweeps are made of the helpers for sweeps.
        more = {"ablation"} if path.parent.name == "sweeps" else set()
        assert {module.split(".")[1] for module in modules} <= below | more, path


def test_every_file_has_a_name_that_says_what_is_in_it():
    names = {part for path in SOURCES for part in path.with_suffix("").relative_to(ROOT).parts}
    assert not names & FORBIDDEN_NAMES

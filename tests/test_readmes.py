"""The READMEs, and the commands in the docstrings of scripts and configs, are correct."""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest

from segjax import cli
from segjax.cli import COMMANDS
from segjax.configs import semantic
from segjax.experiment.sections import check_settings, read_optimizer
from segjax.train.optimizer import make_optimizer

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "configs/README.md",
    "scripts/README.md",
    "segjax/README.md",
    "segjax/datasets/README.md",
    "segjax/evaluation/README.md",
    "segjax/inference/README.md",
)
SOURCES = sorted(
    str(path.relative_to(ROOT))
    for name in ("configs", "configs/sweeps", "scripts")
    for path in (ROOT / name).glob("*.py")
)


def commands(name: str):
    """Yields the commands of a page or of a module's docstring: script and arguments."""
    text = (ROOT / name).read_text()
    if name.endswith(".py"):
        text = ast.get_docstring(ast.parse(text)) or ""
    text = text.replace("\\\n", " ")
    variables = dict(re.findall(r"^ +([A-Z]+)=(\S+)$", text, re.MULTILINE))
    lines = re.findall(r"(?:^ *|`|&& )((?:segjax|python scripts/)[^`\n]*? --[^`\n]*)", text, re.MULTILINE)
    for line in lines:
        for variable, value in variables.items():
            line = line.replace(f"${variable}", value)
        program, *words = shlex.split(line)
        script = (
            words[0].removesuffix(".py").removeprefix("scripts/")
            if program == "python"
            else COMMANDS[words[0]][0]
        )
        yield script, words[1:]


def field_exists(config, field: str) -> bool:
    for name in field.split("."):
        if name not in config:
            return False
        config = config[name]
    return True


@pytest.mark.parametrize("name", [*PAGES, *SOURCES])
def test_every_command_has_a_script_a_config_and_flags_that_exist(name):
    for script, words in commands(name):
        source = (ROOT / "scripts" / f"{script}.py").read_text()
        if "cli.define_processes()" in source:
            source += inspect.getsource(cli.define_processes)
        defined = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source))
        config = semantic.get_config()  # for flags without --config, such as those of a run
        for word in words:
            if "positional=True" in source and not word.startswith("-"):
                continue
            assert word.startswith("--"), (name, word)
            flag, _, value = word.removeprefix("--").partition("=")
            if flag == "config":
                path, _, variant = value.partition(":")
                module = importlib.import_module(f"segjax.configs.{Path(path).stem}")
                config = module.get_config(variant)
            elif flag.startswith("config."):
                assert field_exists(config, flag.removeprefix("config.")), (name, flag)
            else:
                assert flag in defined or flag == "help", (name, script, flag)


@pytest.mark.parametrize("name", [*PAGES, *SOURCES])
def test_every_training_has_values_that_are_allowed(name):
    for script, words in commands(name):
        given = [word.removeprefix("--").partition("=")[::2] for word in words]
        path, _, variant = dict(given).get("config", "").partition(":")
        if script != "train" or not path or "=..." in " ".join(words):
            continue
        config = importlib.import_module(f"segjax.configs.{Path(path).stem}").get_config(variant)
        with config.ignore_type():
            for flag, value in given:
                if flag.startswith("config."):
                    config.update_from_flattened_dict({flag.removeprefix("config."): literal(value)})
        check_settings(config)
        make_optimizer(read_optimizer(config), steps=config.steps, frozen={})


def literal(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def test_the_pages_have_commands():
    assert len(list(commands("README.md"))) > 15
    assert len(list(commands("configs/README.md"))) > 8
    assert len(list(commands("scripts/README.md"))) > 8
    assert len(list(commands("segjax/inference/README.md"))) > 5
    assert len(list(commands("segjax/evaluation/README.md"))) > 2
    assert len(list(commands("segjax/datasets/README.md"))) > 2


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", (ROOT / name).read_text()):
        page = (ROOT / name).parent / target if target else ROOT / name
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), (target, anchor)


def anchors(page: Path) -> set[str]:
    """Returns the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_python_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    # A run takes minutes; the tests of `load` open one.
    exec(code.replace('"runs/quickstart"', '"watershed"'), names)
    assert names["scores"].iou["class 1"] > 0.8
    assert names["segmentation"].shape == names["record"].image.shape[:2]

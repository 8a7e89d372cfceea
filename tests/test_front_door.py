"""What `import segjax` and the installed package offer."""

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import segjax
from segjax import cli

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


@pytest.mark.parametrize("name", segjax.__all__)
def test_every_name_is_there_and_documented(name):
    assert name in dir(segjax)
    assert getattr(segjax, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'segjax' has no attribute 'nothing'"):
        _ = segjax.nothing


def test_configs_and_commands_are_installed():
    modules = SETUPTOOLS["py-modules"]
    configs = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"__init__"}
    scripts = {script for script, _ in cli.COMMANDS.values()}
    configs |= {f"sweeps.{path.stem}" for path in (ROOT / "configs/sweeps").glob("*.py")}
    expected = {f"segjax.configs.{name}" for name in configs} | {f"segjax.scripts.{name}" for name in scripts}
    assert set(modules) == expected
    for module in modules:
        assert find_spec(module) is not None


def test_data_files_are_installed():
    patterns = SETUPTOOLS["package-data"]["segjax"]
    # Modules, and the pictures and texts that are for readers of the repository.
    others = (".py", ".pyc", ".png", ".jpg")
    for path in (ROOT / "segjax").rglob("*"):
        inside = path.is_file() and path.suffix not in others and path.name != "README.md"
        if inside:
            assert any(path.relative_to(ROOT / "segjax").match(pattern) for pattern in patterns), path


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["segjax", *arguments])
    cli.main()
    return capsys.readouterr().out


def test_help_lists_the_commands(monkeypatch, capsys):
    out = run(monkeypatch, capsys, "--help")
    assert out == run(monkeypatch, capsys)
    for name in cli.COMMANDS:
        assert f"\n  {name} " in out


def test_an_unknown_command_ends_in_one_sentence(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, capsys, "trian")
    message = capsys.readouterr().err.strip()
    assert message == f"error: there is no command 'trian': choose one of {', '.join(cli.COMMANDS)}"

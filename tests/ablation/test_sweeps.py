from pathlib import Path

import pytest

from segjax.ablation.points import expand
from segjax.ablation.sweeps import chain, import_file, load_sweep, product, shipped, sweep, zipit
from segjax.configs.sweeps.budget import SEEDS
from segjax.errors import InputError

A, B = sweep("a", [1, 2]), sweep("b.c", ["x", "y"])


def test_sweeps_are_combined():
    assert [*product(A, B)] == [
        {"a": 1, "b.c": "x"},
        {"a": 1, "b.c": "y"},
        {"a": 2, "b.c": "x"},
        {"a": 2, "b.c": "y"},
    ]
    assert [*zipit(A, B)] == [{"a": 1, "b.c": "x"}, {"a": 2, "b.c": "y"}]
    assert [*chain(A, B)] == [{"a": 1}, {"a": 2}, {"b.c": "x"}, {"b.c": "y"}]
    assert [*product()] == [{}]


def test_the_last_sweep_overrides_the_earlier_ones():
    assert [*product([{"steps": 900, "a": 1}], sweep("steps", [5]))] == [{"steps": 5, "a": 1}]


def test_sweeps_of_unequal_length_are_not_zipped():
    with pytest.raises(ValueError, match="longer"):
        [*zipit(A, sweep("b", [1, 2, 3]))]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seed=0,1", [0, 1]),
        ("task.instances=flows,distance", ["flows", "distance"]),
        ("augment.scale=(0.5,1.5),(1.0,1.0)", [(0.5, 1.5), (1.0, 1.0)]),
        ("model.skips=True", [True]),
        ("model.weights=None,vgg16.safetensors", [None, "vgg16.safetensors"]),
        ("dataset.train=train[:5],train[:10]", ["train[:5]", "train[:10]"]),
        ("config=quickstart,semantic:encoder=vgg11", ["quickstart", "semantic:encoder=vgg11"]),
    ],
)
def test_values_on_the_command_line_are_literals_or_texts(text, values):
    points, question = load_sweep(text)
    assert [*points] == sweep(text.partition("=")[0], values)
    assert question == ""


def test_a_file_of_the_user_is_a_sweep(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text('"""Why?"""\ndef get_sweep(variant):\n    yield {"seed": 1, "name": variant}\n')
    assert load_sweep(f"{path}:x=2") == ([{"seed": 1, "name": "x=2"}], "Why?")


@pytest.mark.parametrize(
    ("text", "content", "message"),
    [
        ("encoder", None, "No module named .* one of augmentation, .*encoders"),
        ("none.py", None, "there is no file none.py"),
        ("seed=", None, "is not field=value,value"),
        ("=1", None, "is not field=value,value"),
        ("encoders:dataset=moon", None, "unknown dataset 'moon': choose one of mnfinder"),
        ("FILE", "x = 1", "has no function get_sweep"),
        ("FILE", "def get_sweep(variant):\n    yield 1 / 0", "division by zero"),
        ("FILE", "def get_sweep(variant) yield", "invalid syntax|expected ':'"),
    ],
)
def test_a_sweep_that_cannot_be_used_ends_in_one_sentence(tmp_path, text, content, message):
    if content is not None:
        (tmp_path / "bad.py").write_text(content)
        text = str(tmp_path / "bad.py")
    with pytest.raises(InputError, match=message) as raised:
        load_sweep(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", shipped())
def test_every_point_of_a_shipped_sweep_is_a_config_that_can_run(name, tmp_path, monkeypatch):
    """No data set that a sweep offers has an invalid point; expanding checks every config."""
    monkeypatch.chdir(tmp_path)
    for weights in ("vgg16", "vgg16_bn", "resnet50"):  # the files that `encoders` names
        Path(f"{weights}.safetensors").touch()
    module = import_file(name, "sweeps.")
    datasets = vars(module)["DATASET"]
    variants = [f"dataset={dataset}" for dataset in datasets]
    variants += {"tuning": ["method=all"], "encoders": ["start=pretrained"]}.get(name, [])
    for variant in variants:
        points, question = load_sweep(f"{name}:{variant}")
        assert question.partition("\n")[0].endswith("?")
        expanded = expand(points, about={})
        assert len(expanded) == len(points) > len(SEEDS)
        chosen = variant.removeprefix("dataset=")
        if variant.startswith("dataset="):
            assert {point.config.dataset.name for point in expanded} == {chosen}

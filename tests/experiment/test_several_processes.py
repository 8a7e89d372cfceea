import json

import jax
import pytest

from segjax.configs import classical
from segjax.errors import InputError
from segjax.experiment import classification, evaluation
from segjax.experiment.evaluation import evaluate_classical
from tests.experiment.test_validation import Images
from tests.train.threads import run_processes


def small(method="watershed"):
    config = classical.get_config("method=watershed,dataset=synthetic")
    config.methods = {method: {}}
    return config


@pytest.fixture(autouse=True)
def images(monkeypatch):
    for module in (classification, evaluation):
        monkeypatch.setattr(module, "open_split", lambda config, split: Images())


def test_an_evaluation_by_several_processes_is_that_of_one_and_the_first_process_writes_it(
    monkeypatch, tmp_path
):
    writers, write = [], evaluation.write_report

    def write_report(folder, report):
        writers.append(jax.process_index())
        write(folder, report)

    monkeypatch.setattr(evaluation, "write_report", write_report)
    table = evaluate_classical(small(), "test", tmp_path / "one")
    tables, several = run_processes(
        monkeypatch, 2, lambda: evaluate_classical(small(), "test", tmp_path / "two")
    )
    one, two = tmp_path / "one", tmp_path / "two"
    expected, metrics = (
        json.loads((folder / "metrics.json").read_text()) | {"seconds": None} for folder in (one, two)
    )
    assert writers == [0, 0]
    assert metrics == expected
    assert len(metrics["per_image"]["watershed"]) == 7
    assert tables == [table.replace("one", "two")] * 2
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    name = "classifier_watershed.json"
    assert (two / name).read_text() == (one / name).read_text()
    assert "the evaluation of watershed" in several.purposes


def test_a_setting_that_one_process_refuses_ends_all(monkeypatch, tmp_path):
    configs = iter([small(), small("otsu")])
    errors, _ = run_processes(monkeypatch, 2, lambda: evaluate_classical(next(configs), "test", tmp_path))
    assert {type(error) for error in errors} == {InputError}
    assert sorted(str(error).startswith("process") for error in errors) == [False, True]

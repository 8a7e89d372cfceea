"""`config.ensemble`: seeds that are trained together, each as a run of its own."""

import copy
import functools
import json
from pathlib import Path

import jax
import pytest

from segjax.configs import semantic
from segjax.errors import InputError
from segjax.experiment import training
from segjax.experiment.ensembles import seeds_of
from segjax.experiment.methods import open_method
from segjax.experiment.prediction_methods import select_method
from segjax.experiment.replaying import replay
from segjax.experiment.setup import make_setup
from segjax.experiment.workdir import ModelMetadata, check_config, flat_config, read_config, write_config
from segjax.train.loop import Result
from segjax.train.state import fingerprint
from tests.experiment.tiny import shrink

METADATA = ModelMetadata(("background", "nucleus", "bright body"), 1)
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def config():
    config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    config.seed, config.ensemble, config.batch_size, config.steps = 5, 2, 4, 2
    config.dataset.train, config.dataset.validation, config.dataset.test = (
        "train[:8]",
        "validation[:1]",
        "test[:1]",
    )
    return config


def score(params):
    return float(sum(leaf.sum() for leaf in jax.tree.leaves(params)))


def alone(config, seed):
    own = copy.deepcopy(config)
    own.seed, own.ensemble = seed, 1
    return own


def test_each_seed_has_the_folder_and_the_config_of_its_run(config, tmp_path):
    seeds = seeds_of(config, tmp_path)
    assert [folder.name for folder in seeds] == ["seed_5", "seed_6"]
    for seed, own in zip((5, 6), seeds.values(), strict=True):
        assert flat_config(own) == flat_config(alone(config, seed))
    assert config.ensemble == 2
    assert list(seeds_of(alone(config, 7), tmp_path)) == [tmp_path]


def test_a_run_from_before_there_were_ensembles_goes_on(config, tmp_path):
    write_config(tmp_path, alone(config, 5))
    content = json.loads((tmp_path / "config.json").read_text())
    del content["ensemble"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    check_config(tmp_path, alone(config, 5))
    with pytest.raises(InputError, match=r"config\.seed was 5, is 6"):
        check_config(tmp_path, alone(config, 6))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ensemble": 0}, r"config.ensemble is 0; it must be between 1 and 64"),
        ({"seed": 2**32 - 1}, r"config.seed is 4294967296"),
        ({"mesh": {"data": 2}}, "config.ensemble=2 trains all seeds on one device: set config.mesh.data"),
    ],
    ids=["no seed", "too large a seed", "several devices"],
)
def test_what_an_ensemble_cannot_be_is_said_before_anything_is_written(config, tmp_path, change, sentence):
    config.update(change)
    with pytest.raises(InputError, match=sentence):
        training.train_seeds(config, tmp_path)
    assert not any(tmp_path.iterdir())


def test_what_is_for_one_run_is_refused(config, tmp_path):
    for observed in ({"profile": 5}, {"track": "mlflow"}):
        with pytest.raises(InputError, match=r"is for one run: .*--config.seed=5 --workdir=RUN/seed_5"):
            training.train_seeds(config, tmp_path, **observed)
    with pytest.raises(InputError, match="--replay=1 is for one run"):
        replay(config, tmp_path, 1)
    with pytest.raises(InputError, match="is for one run"):
        training.train(config, tmp_path)


def test_a_folder_is_of_one_run_or_of_an_ensemble(config, tmp_path):
    write_config(tmp_path / "one", alone(config, 5))
    with pytest.raises(InputError, match="has a run of one seed: choose another --workdir"):
        seeds_of(config, tmp_path / "one")
    for folder, own in seeds_of(config, tmp_path / "both").items():
        write_config(folder, own)
    with pytest.raises(InputError, match=r"seeds of an ensemble: add --config.ensemble=2, .*both/seed_5"):
        seeds_of(alone(config, 5), tmp_path / "both")
    with pytest.raises(InputError, match=r"contains the 2 runs of an ensemble: .* --workdir=.*both/seed_5"):
        read_config(tmp_path / "both")


@pytest.mark.usefixtures("quick_to_compile")
def test_a_seed_leaves_what_it_leaves_alone_and_an_ensemble_predicts_with_all(config, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites.contents import digests_of

    # Quicker to compile.
    config.augment.policy, config.optimizer.name, config.train.ema_decay = (), "sgd", 0.0
    compiled = functools.cache(lambda: make_setup(config, METADATA))
    monkeypatch.setattr(training, "make_setup", lambda *_: compiled())
    monkeypatch.setattr(training, "make_predictor", lambda *_: None)
    monkeypatch.setattr(training, "Validation", lambda *_: lambda params, check: {"score": score(params)})
    both, one = tmp_path / "both", tmp_path / "one"
    results = training.train_seeds(config, both)
    result = training.train(alone(config, 6), one)
    assert digests_of(both / "seed_6") == digests_of(one)
    assert digests_of(both / "seed_5") != digests_of(one)
    assert fingerprint(results[both / "seed_6"].state) == fingerprint(result.state)

    members = [open_method(folder) for folder in results]
    assert [fingerprint(opened.method.params) for opened in members] == [
        fingerprint(result.state.eval_params) for result in results.values()
    ]
    ensemble = select_method([both])
    assert ensemble.digest == select_method([both / "seed_5", both / "seed_6"]).digest
    assert [fingerprint(method.params) for method in (ensemble.method, *ensemble.method.others)] == [
        fingerprint(opened.method.params) for opened in members
    ]


def test_the_seeds_that_did_not_fail_are_completed(config, tmp_path, monkeypatch):
    completed = []
    finished = Result(state=None, seconds=1.0, stopped_early=False)
    outcomes = [InputError("the gradient was not finite"), finished]
    monkeypatch.setattr(training, "train_together", lambda trainings: outcomes)
    monkeypatch.setattr(training, "_complete", lambda run: completed.append(run.workdir.name))
    with pytest.raises(InputError, match="seed_5: the gradient was not finite"):
        training.train_seeds(config, tmp_path)
    assert completed == ["seed_6"]

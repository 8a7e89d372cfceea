import numpy as np
import pytest

from segjax.configs import nuclei, semantic
from segjax.errors import InputError
from segjax.experiment import training
from segjax.experiment.workdir import check_config, write_config
from segjax.train.log import read_log
from segjax.train.state import fingerprint
from tests.experiment.tiny import shrink


@pytest.mark.usefixtures("quick_to_compile")
def test_a_run_that_diverges_twice_goes_on_with_a_quarter_of_the_learning_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "make_predictor", lambda *_: None)
    monkeypatch.setattr(training, "Validation", lambda *_: lambda params, check: {"score": 0.0})
    make_stream, starts = training.make_stream, []

    def spoilt(*arguments, **options):
        """Makes batches whose gradient is not finite, until the run has gone back twice."""
        stream = make_stream(*arguments, **options)
        batch = stream.batch

        def spoil(step):
            made = batch(step)
            if step == 0:
                starts.append(step)
            if len(starts) <= 2:
                made["image"][:] = np.inf
            return made

        stream.batch = spoil
        return stream

    def train(name, rate):
        config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
        config.batch_size, config.steps, config.data.workers = 4, 2, 0
        config.augment.policy = ()
        config.dataset.train, config.dataset.validation = "train[:8]", "validation[:1]"
        # Quicker to compile.
        config.optimizer.name, config.train.ema_decay = "sgd", 0.0
        config.optimizer.learning_rate = rate
        config.train.validate_every, config.train.max_consecutive_skips, config.train.rollback = 0, 1, 2
        config.predict.fit = False
        return fingerprint(training.train(config, tmp_path / name).state)

    undisturbed = train("undisturbed", 0.1)
    monkeypatch.setattr(training, "make_stream", spoilt)
    assert train("diverged", 0.4) == undisturbed
    assert len(starts) == 3
    notes = [
        entry["rollback"] for entry in read_log(tmp_path / "diverged" / "log.jsonl") if "rollback" in entry
    ]
    assert [note["number"] for note in notes] == [2]
    assert (tmp_path / "diverged" / "log.set_aside1.jsonl").exists()


def test_a_run_goes_on_with_another_size_of_its_cache(tmp_path):
    config = nuclei.get_config("dataset=synthetic")
    write_config(tmp_path, config)
    config.data.cache_bytes *= 2
    check_config(tmp_path, config)
    config.data.patch_size *= 2
    with pytest.raises(InputError, match=r"\(data.patch_size differ"):
        check_config(tmp_path, config)

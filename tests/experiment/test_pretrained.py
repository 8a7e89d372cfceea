"""Which runs become one file, and that the file opens as the run."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from segjax.configs import rcnn
from segjax.errors import InputError
from segjax.experiment import pretrained
from segjax.experiment.methods import open_method
from segjax.experiment.setup import make_task, param_shapes
from segjax.experiment.workdir import ModelMetadata, write_config, write_metadata
from segjax.tasks import rcnn_svm
from tests.experiment.tiny import shrink
from tests.models.quick import random_params

METADATA = ModelMetadata(("background", "cell"), 1)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Makes the folder of a run of Fast R-CNN whose parameters are random."""

    def make(changes):
        config = shrink(rcnn.get_config("method=fast_r_cnn,backbone=vgg16,dataset=synthetic,size=small"))
        config.model.update({"head_channels": 8, "bins": 3})
        config.proposals = ConfigDict({"method": "watershed", "max_proposals": 30, "workdir": None})
        with config.ignore_type():
            config.update_from_flattened_dict(changes)
        workdir = tmp_path / "run"
        write_config(workdir, config)
        write_metadata(workdir, METADATA)
        task = make_task(config, METADATA)
        params = random_params(param_shapes(config, task, METADATA))
        monkeypatch.setattr(pretrained, "restore_params", lambda *_: (task, params, 1))
        return workdir, params

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task.classifier": "svm"}, "run ends with SVMs, which have no place in one file: use the folder"),
        (
            {"proposals.method": "rpn", "proposals.workdir": "runs/rpn"},
            "run takes its proposals from another run, which has no place in one file: use the folder",
        ),
    ],
)
def test_runs_that_need_more_than_their_parameters_are_not_exported(run, changes, message, tmp_path):
    workdir, _ = run(changes)
    with pytest.raises(InputError, match=message):
        pretrained.export_run(workdir, tmp_path / "network.safetensors")
    assert not (tmp_path / "network.safetensors").exists()


def test_a_run_with_a_left_over_file_of_svms_is_exported_without_it(run, tmp_path):
    workdir, params = run({})
    (workdir / rcnn_svm.FILE).touch()
    pretrained.export_run(workdir, tmp_path / "network.safetensors")
    opened = open_method(tmp_path / "network.safetensors").method
    for mine, other in zip(jax.tree.leaves(opened.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(mine, other.astype(np.float16).astype(np.float32))

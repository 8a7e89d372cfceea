"""A detector from its config to its report, with proposals from outside."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import rcnn
from segjax.data.records import Source
from segjax.errors import InputError
from segjax.experiment.build import open_split, open_workdir
from segjax.experiment.evaluation import evaluate_workdir
from segjax.experiment.proposals import make_proposer
from segjax.experiment.training import train
from segjax.experiment.workdir import read_config, read_description
from tests.experiment.tiny import shrink


def tiny(method: str) -> ConfigDict:
    """The smallest detector that there can be."""
    backbone = "vgg16" if method == "fast_r_cnn" else "vgg16_fpn"
    config = shrink(rcnn.get_config(f"method={method},backbone={backbone},dataset=synthetic,size=small"))
    config.dataset.validation, config.dataset.test = "validation[:1]", "test[:2]"
    config.steps = config.train.validate_every = 2
    config.batch_size = 2
    config.model.update({"pyramid_channels": 4, "head_channels": 8, "mask_channels": 4, "bins": 3})
    config.task.update({"pre_nms": 20, "post_nms": 20, "max_detections": 20, "candidates": 40})
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of Fast R-CNN."""
    folder = tmp_path_factory.mktemp("objects")
    config = tiny("fast_r_cnn")
    config.dataset.data_dir = str(folder / "data")
    config.proposals = ConfigDict({"method": "segmentations", "max_proposals": 30})
    train(config, folder / "run")
    return config, folder, evaluate_workdir(folder / "run", "test")


def test_is_evaluated_beside_the_reference(run):
    _, folder, table = run
    assert "model" in table
    assert "reference" in table
    metrics = json.loads((folder / "run" / "report" / "metrics.json").read_text())
    assert len(metrics["per_image"]["model"]) == 2


def test_proposals_are_made_once_and_kept_beside_the_data(run):
    config, folder, _ = run
    kept = list((folder / "data" / "proposals" / "segmentations-1").glob("*.npy"))
    source: Source = open_split(config, "test")
    before = {path: path.stat().st_mtime_ns for path in kept}
    boxes = make_proposer(config)(source[0].image)
    assert boxes.shape[1] == 4
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    make_proposer(config)(np.zeros((50, 50, 1), np.uint8))
    assert len(list((folder / "data" / "proposals" / "segmentations-1").glob("*"))) == len(kept) + 1


def test_objects_are_found_in_pixels_of_the_image(run):
    config, folder, _ = run
    workdir = folder / "run"
    predictor, _ = open_workdir(workdir, read_config(workdir), read_description(workdir))
    image = open_split(config, "test")[0].image
    found = predictor.outputs(image)
    assert found["shape"].tolist() == list(image.shape[:2])
    # The network sees it at half the size.
    assert found["boxes"].max(initial=0) <= max(image.shape[:2])
    assert (np.diff(found["scores"]) <= 0).all()


def test_unknown_proposals_and_flips_are_named(run):
    config, folder, _ = run
    wrong = ConfigDict(config.to_dict())
    wrong.proposals.method = "edge_boxes"
    with pytest.raises(InputError, match="choose one of selective_search, segmentations, both"):
        make_proposer(wrong)
    workdir = folder / "run"
    wrong = read_config(workdir)
    wrong.predict.flips = True
    with pytest.raises(InputError, match=r"config.predict.flips averages maps"):
        open_workdir(workdir, wrong, read_description(workdir))


def test_r_cnn_ends_with_svms(tmp_path):
    config = tiny("r_cnn")
    config.dataset.train, config.dataset.data_dir = "train[:3]", str(tmp_path / "data")
    config.proposals = ConfigDict({"method": "segmentations", "max_proposals": 30})
    config.model.update({"crop_side": 16, "crop_context": 2})
    workdir = tmp_path / "run"
    train(config, workdir)
    predictor, _ = open_workdir(workdir, read_config(workdir), read_description(workdir))
    assert not np.asarray(predictor.params["box_predictor"]["logits"]["kernel"])[:, 0].any()
    found = predictor.outputs(open_split(config, "test")[0].image)
    assert found["boxes"].shape[1] == 4
    made = (workdir / "svm.safetensors").stat().st_mtime_ns
    train(config, workdir)
    assert (workdir / "svm.safetensors").stat().st_mtime_ns == made

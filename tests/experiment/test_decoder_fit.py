import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from segjax.data.records import Record
from segjax.data.targets import instance_distance
from segjax.errors import InputError
from segjax.experiment import decoder_fit
from segjax.experiment.decoder_fit import fit_decoder, fitted_task, with_settings
from segjax.inference.predictor import create_predictor
from segjax.models.detectors import create_detector
from segjax.segmentation import Segmentation
from segjax.tasks.detection import DetectionTask
from segjax.tasks.semantic import SemanticConfig, SemanticTask
from segjax.train.state import fingerprint
from tests.train.threads import run_processes

PARAMS = {"w": np.ones(2)}


class Copy:
    """A network whose outputs are the channels of the image: a distance map, and the foreground."""

    stride = 1

    def apply(self, variables, images):
        foreground = images[..., 1:]
        return {"classes": jnp.concatenate([-foreground, foreground], -1), "distance": images[..., :1]}


class Records:
    """Touching discs with a noisy distance map, which the default settings split too often."""

    class_names = ("background", "cell")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        y, x = np.mgrid[:64, :96]
        labels = np.zeros((64, 96), np.int32)
        for number, (row, column) in enumerate(((20, 20), (20, 44), (44, 32), (40, 70)), start=1):
            labels[((y - row) ** 2 + (x - column) ** 2 < 13**2) & (labels == 0)] = number
        noise = ndimage.gaussian_filter(rng.normal(size=labels.shape), 1.5)
        distance = instance_distance(labels) + 0.25 * noise / noise.std()
        image = np.stack([distance, np.where(labels, 5.0, -5.0)], -1).astype(np.float32)
        return Record(f"image{index}", f"group{index}", image, Segmentation.from_labels(labels))


def predictor(**settings):
    task = SemanticTask(Copy(), 2, SemanticConfig(instances="distance", **settings))
    return create_predictor(task, {}, prepare=lambda image: image)


@pytest.fixture(scope="module")
def fit():
    return fit_decoder(predictor(), Records(), step=7)


def test_better_settings_replace_those_of_the_config(fit):
    assert fit.score > fit.before + 0.05
    assert fit.score == pytest.approx(max(each["score"] for each in fit.tried), abs=1e-4)
    assert {**fit.settings, "score": round(fit.score, 5)} in fit.tried
    # The score is that of the method with these settings.
    fitted = dataclasses.replace(predictor(), task=with_settings(predictor().task, fit.settings))
    again = fit_decoder(fitted, Records(), step=7)
    assert again.before == pytest.approx(fit.score, abs=5e-3)  # maps are kept in float16


def test_a_fit_is_reproducible(fit):
    assert fit_decoder(predictor(), Records(), step=7) == fit


def test_fixed_settings_keep_their_value():
    fixed = ("decoder.h", "decoder.smoothing", "min_area", "min_fraction")
    result = fit_decoder(predictor(), Records(), step=7, fixed=fixed)
    assert set(result.settings) == {"foreground_threshold"}
    with pytest.raises(InputError, match=r"fixed names decoder\.sigma: choose among foreground_threshold"):
        fit_decoder(predictor(), Records(), step=7, fixed=("decoder.sigma",))


def test_several_processes_fit_what_one_fits(monkeypatch):
    fixed = ("decoder.h", "decoder.smoothing", "min_fraction")

    def work():
        return fit_decoder(predictor(), Records(), step=7, fixed=fixed)

    results, several = run_processes(monkeypatch, 2, work)
    assert results == [work()] * 2
    assert len(results[0].tried) > 5
    # All stop together, while they predict or search.
    results, _ = run_processes(monkeypatch, 2, work, stop_at=several.calls[0])
    assert [result.exit_code for result in results] == [143, 143]


def test_the_result_is_used_for_its_step_only(fit, tmp_path, caplog):
    task = predictor().task
    assert fitted_task(task, tmp_path, 7, PARAMS) is task
    decoder_fit.save(fit, tmp_path)
    fitted = fitted_task(task, tmp_path, 7, PARAMS)
    assert fitted.config.decoder.h == fit.settings["decoder.h"]
    assert fitted.config.min_area == tuple(fit.settings["min_area"])
    assert fitted_task(task, tmp_path, 8, PARAMS) is task
    assert "was fitted for step 7, not for step 8" in caplog.text


def test_the_result_is_not_used_for_other_parameters_of_its_step(fit, tmp_path, caplog):
    task = predictor().task
    decoder_fit.save(fit._replace(params=fingerprint(PARAMS)), tmp_path)
    assert fitted_task(task, tmp_path, 7, PARAMS).config.decoder.h == fit.settings["decoder.h"]
    assert not caplog.text
    assert fitted_task(task, tmp_path, 7, {"w": np.zeros(2)}) is task
    assert "was fitted for other parameters of step 7: run segjax evaluate --fit" in caplog.text


@pytest.mark.parametrize("content", ["{", "[]", '{"step": 7}', '{"settings": {"decoder.nothing": 1}}'])
def test_a_damaged_file_is_named(content, tmp_path):
    if content.startswith('{"settings"'):
        content = json.dumps(json.loads(content) | {"step": 7, "score": 0, "before": 0, "tried": []})
    (tmp_path / decoder_fit.FILE).write_text(content)
    with pytest.raises(InputError, match="is damaged"):
        fitted_task(predictor().task, tmp_path, 7, PARAMS)


@pytest.mark.parametrize(("method", "setting"), [("fast_r_cnn", "outline"), ("mask_r_cnn", "mask_threshold")])
def test_detectors_choose_score_and_outline(method, setting):
    task = DetectionTask(create_detector(method, classes=2), 2)
    assert set(decoder_fit.grid(task)) == {
        "detect.score_threshold",
        setting,
        "max_overlap",
        "min_area",
    }


@dataclasses.dataclass
class Detecting:
    """A detector whose outputs are the score threshold that it has."""

    task: DetectionTask
    outlines: tuple = ()

    def detect(self, image):
        return {"threshold": self.task.config.detect.score_threshold}


@pytest.mark.parametrize(("own", "expected"), [(0.05, 0.05), (0.5, 0.1)])
def test_outputs_have_all_detections_that_a_setting_would_keep(own, expected):
    task = DetectionTask(create_detector("mask_r_cnn", classes=2), 2)
    task = with_settings(task, {"detect.score_threshold": own})
    images = decoder_fit._predict(Detecting(task), Records(), decoder_fit.grid(task))
    assert [outputs["threshold"] for outputs, _ in images.values()] == [expected] * 3


def test_a_fit_on_few_images_is_warned_of(caplog):
    fit_decoder(predictor(), Records(), step=7, fixed=("decoder.h", "decoder.smoothing", "min_area"))
    assert "the validation split has only 3 images, fewer than 10" in caplog.text

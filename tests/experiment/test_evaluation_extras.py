from types import SimpleNamespace

import numpy as np
import pytest

from segjax.experiment import evaluation_extras
from segjax.experiment.evaluation_extras import fit_count_interval
from segjax.metrics.counting import CountInterval
from segjax.segmentation import Segmentation


def row_of(count):
    labels = np.zeros((1, 2 * count + 1), np.int32)
    labels[0, 1::2] = np.arange(1, count + 1)
    return Segmentation.from_labels(labels)


class Images(list):
    class_names = ("background", "cell")


@pytest.mark.parametrize(
    ("count", "split", "used"), [(12, "test", 12), (250, "test", 100), (8, "test", 0), (12, "validation", 0)]
)
def test_the_interval_of_the_count_is_fitted_to_validation_images(monkeypatch, count, split, used):
    true = [3 + index % 5 for index in range(count)]
    images = Images(SimpleNamespace(truth=row_of(one), image=np.full((1, 1), one)) for one in true)
    opened = []

    def predict(image):
        opened.append(int(image[0, 0]))
        return row_of(opened[-1] + len(opened) % 3)  # up to two too many

    monkeypatch.setattr(evaluation_extras, "open_split", lambda config, name: {"validation": images}[name])
    interval = fit_count_interval(predict, None, split)
    assert len(opened) == used
    if not used:
        assert interval is None
        return
    predicted = [one + index % 3 for index, one in enumerate(opened, start=1)]
    assert interval == CountInterval.fit(opened, predicted)

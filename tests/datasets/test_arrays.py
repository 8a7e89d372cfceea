import io
import zipfile

import numpy as np
import pytest

from segjax.datasets.arrays import iterate_array
from segjax.errors import InputError

NUMBERS = np.arange(24.0).reshape(3, 4, 2)


def write_array(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def places(folder, content):
    """The same bytes as a file and as a member of an archive."""
    (folder / "x.npy").write_bytes(content)
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    yield folder / "x.npy"
    with zipfile.ZipFile(folder / "x.zip") as archive:
        yield zipfile.Path(archive, "x.npy")


def test_items_come_one_by_one(tmp_path):
    for file in places(tmp_path, write_array(NUMBERS)):
        items = list(iterate_array(file, (4, 2)))
        np.testing.assert_array_equal(np.stack(items), NUMBERS)
        assert not isinstance(items[0], np.memmap)


def test_a_member_that_ends_too_early_says_where(tmp_path):
    list(places(tmp_path, write_array(NUMBERS)[:-1]))
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        items = iterate_array(zipfile.Path(archive, "x.npy"), (4, 2))
        assert [next(items)[0, 0], next(items)[0, 0]] == [0, 8]
        with pytest.raises(InputError, match="ends inside item 2 of 3"):
            next(items)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no array", "magic string"),
        (write_array(NUMBERS)[:-1], "x.npy cannot be read"),
        (write_array(np.asfortranarray(NUMBERS)), "in Fortran order"),
        (write_array(NUMBERS.reshape(3, 2, 4)), r"its shape is \(3, 2, 4\), not \(N, 4, 2\)"),
        (write_array(NUMBERS[0, 0, 0]), r"its shape is \(\)"),
        (write_array(np.array([{}] * 3), allow_pickle=True), "holds object, not numbers"),
    ],
)
def test_what_is_no_such_array_is_refused(tmp_path, content, message):
    for file in places(tmp_path, content):
        with pytest.raises(InputError, match=message):
            list(iterate_array(file, (4, 2)))

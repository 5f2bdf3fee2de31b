import numpy as np
import pytest
import torch
import zarr

from latentgeom.data.files import read_points, read_table
from latentgeom.shell.errors import InputError

X = np.random.default_rng(0).normal(size=(12, 3))
WORDS = np.array(["b", "a", "c"] * 4)


def parquet(path):
    import pyarrow
    from pyarrow import parquet

    columns = {name: X[:, i] for i, name in enumerate("xyz")}
    parquet.write_table(pyarrow.table({**columns, "kind": WORDS}), path)


def write(path, header="x,y,z,kind", bom=""):
    """A csv file with labels in words."""
    lines = [",".join([*(repr(float(v)) for v in row), w]) for row, w in zip(X, WORDS, strict=True)]
    path.write_text(bom + "\n".join(([header] if header else []) + lines) + "\n")


@pytest.mark.parametrize("suffix", ["npz", "csv", "zarr", "parquet"])
def test_labels_stand_beside_the_observations(tmp_path, suffix):
    path = tmp_path / f"data.{suffix}"
    if suffix == "npz":
        np.savez(path, points=X, kind=WORDS)
    elif suffix == "zarr":
        group = zarr.open_group(path, mode="w")
        group.create_array("points", data=X)
        group.create_array("kind", data=np.array([1, 0, 2] * 4))
    elif suffix == "csv":
        write(path)
    else:
        pytest.importorskip("pyarrow")
        parquet(path)
    table = read_table(str(path), "kind")
    np.testing.assert_array_equal(table.values, X)
    assert table.labels.tolist() == [1, 0, 2] * 4
    with pytest.raises(InputError, match="no labels 'kinds'; did you mean 'kind'"):
        read_table(str(path), "kinds")


def test_npy_files_and_further_axes_are_read(tmp_path):
    np.save(tmp_path / "images.npy", X.reshape(6, 3, 2).astype(np.float32))
    table = read_table(str(tmp_path / "images.npy"))
    np.testing.assert_allclose(table.values, X.reshape(6, 6), rtol=1e-6)
    assert table.labels.tolist() == [0] * 6
    np.save(tmp_path / "points.npy", X)
    assert torch.equal(read_points(str(tmp_path / "points.npy"), 3), torch.from_numpy(X))
    with pytest.raises(InputError, match="has no labels"):
        read_table(str(tmp_path / "points.npy"), "kind")


@pytest.mark.parametrize("header", ["x,y,z,kind", ""])
def test_a_byte_order_mark_is_no_part_of_the_first_entry(tmp_path, header, capsys):
    write(tmp_path / "a.csv", header, bom="\ufeff")
    table = read_table(str(tmp_path / "a.csv"), "kind" if header else "3")
    np.testing.assert_array_equal(table.values, X)
    told = capsys.readouterr().err
    assert ("line 1 is taken as names of columns: x, y, z, kind" in told) == bool(header)


FAULTS = {
    "1.0,oops,3\n1,2,3\n": "line 1: 'oops' is not a number, and the line is no header",
    "x,y\n1,2\n3\n": "line 3: 1 entries, expected 2",
    "x,y\n1,2\n3,four\n": "line 3: 'four' is not a number",
    "1,2\n3,4\n5,nan\n": "NaN or infinity in 1 of 3 rows, the first is row 2",
    "x,x\n1,2\n": "line 1: names of columns come twice: x, x",
    "": "empty",
    "x;y\n1,5;2\n": "entries are separated by semicolons, expected commas",
    "1;2\n3;4\n": "entries are separated by semicolons, expected commas",
    "1\t2\n3\t4\n": "entries are separated by tabs, expected commas",
    "words\n": "line 1: 'words' is not a number",
}


@pytest.mark.parametrize("content", FAULTS)
def test_nothing_of_a_csv_file_is_dropped(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError) as caught:
        read_table(str(tmp_path / "a.csv"))
    assert FAULTS[content] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["npy", "npz"])
def test_complex_numbers_are_refused(tmp_path, name):
    path = tmp_path / f"a.{name}"
    (np.save if name == "npy" else np.savez)(path, X + 1j)
    with pytest.raises(InputError, match="complex numbers are refused"):
        read_table(str(path))


def test_other_arrays_are_refused(tmp_path):
    np.save(tmp_path / "flat.npy", X[:, 0])
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "objects.npy", np.array([[{}]], dtype=object))
    for name, message in {
        "flat": "expected numbers, an observation a row, got float64 of shape",
        "words": "expected numbers",
        "objects": "not readable as npy",
    }.items():
        with pytest.raises(InputError, match=message):
            read_table(str(tmp_path / f"{name}.npy"))
    np.savez(tmp_path / "short.npz", points=X, kind=WORDS[:3])
    with pytest.raises(InputError, match="12 observations, labels of shape"):
        read_table(str(tmp_path / "short.npz"), "kind")


@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 2, 3)])
def test_empty_arrays_are_refused_by_name(tmp_path, shape):
    np.save(tmp_path / "none.npy", np.zeros(shape))
    with pytest.raises(ValueError, match=r"none\.npy: nothing in an array of shape"):
        read_table(str(tmp_path / "none.npy"))


def test_several_arrays_are_named_in_one_line(tmp_path):
    np.savez(tmp_path / "both.npz", train=X, test=X[:3])
    with pytest.raises(InputError, match=r"several arrays.*'train', 'test'; save the one") as error:
        read_table(str(tmp_path / "both.npz"))
    assert "\n" not in str(error.value)
    np.savez(tmp_path / "none.npz")
    with pytest.raises(InputError, match="no array in it"):
        read_table(str(tmp_path / "none.npz"))

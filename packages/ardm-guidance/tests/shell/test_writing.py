import os

import pytest

from ardm_guidance.shell.errors import InputError
from ardm_guidance.shell.writing import (
    claim,
    note,
    permit_overwriting,
    protect,
    resumable,
    resuming,
    summary,
    whole,
)


@pytest.fixture(autouse=True)
def nothing_permitted():
    permit_overwriting(False)
    yield
    permit_overwriting(False)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail(path, error):
    """Fail half way."""
    with whole(path) as partial:
        partial.write_text("half")
        raise error


def test_a_file_appears_at_the_end(tmp_path):
    with whole(tmp_path / "deep" / "a.txt") as partial:
        partial.write_text("x")
        assert not (tmp_path / "deep" / "a.txt").exists()
        assert partial.suffix == ".txt"
        assert str(os.getpid()) in partial.name
    assert (tmp_path / "deep" / "a.txt").read_text() == "x"
    assert names(tmp_path / "deep") == ["a.txt"]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError):
        fail(tmp_path / "a.txt", RuntimeError())
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_replaces_a_folder(tmp_path):
    for text in ("old", "new"):
        with whole(tmp_path / "store.zarr") as partial:
            (partial / "c").mkdir(parents=True)
            (partial / "c" / text).write_text(text)
            (partial / "zarr.json").touch()
    assert names(tmp_path) == ["store.zarr"]
    assert names(tmp_path / "store.zarr" / "c") == ["new"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path):
    """Not with --overwrite either, and whatever its name."""
    for name in ("store.zarr", "thesis"):
        folder = tmp_path / name
        folder.mkdir()
        claim(folder / "inside.txt")
        (folder / "notes.txt").write_text("mine")
        permit_overwriting(True)
        with pytest.raises(InputError, match=f"{name}: a folder with other files, which isn't"):
            claim(folder)
        with pytest.raises(InputError, match="isn't replaced"), whole(folder) as partial:
            partial.mkdir()
        assert (folder / "notes.txt").read_text() == "mine"
    assert names(tmp_path) == ["store.zarr", "thesis"]


@pytest.mark.parametrize(
    "inside",
    [
        ["zarr.json", "thesis.tex"],
        [".zgroup", "notes/a.txt"],
        ["weights.pt"],
        ["m2m_a.pt", "my.pt"],
    ],
)
def test_a_store_with_something_of_somebodys_in_it_is_never_replaced(inside, tmp_path):
    folder = tmp_path / "o.zarr"
    for name in inside:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    permit_overwriting(True)
    with pytest.raises(InputError, match="a folder with other files"):
        claim(folder)
    assert all((folder / name).is_file() for name in inside)


def test_what_is_read_is_never_the_output(tmp_path):
    permit_overwriting(True)
    source = tmp_path / "a.ckpt"
    source.write_text("weights")
    protect(source)
    (tmp_path / "link").symlink_to(source)
    for name in ("a.ckpt", "link", "b/../a.ckpt"):
        with pytest.raises(InputError, match="is read by this command"):
            claim(tmp_path / name)
    permit_overwriting(True)
    claim(source)


def test_a_folder_of_tensors_is_a_result(tmp_path):
    for name in ("mesh_features.pt", "g2m_edge_index.pt"):
        with whole(tmp_path / "graph") as partial:
            partial.mkdir()
            (partial / name).touch()
    assert names(tmp_path / "graph") == ["g2m_edge_index.pt"]


def test_a_failure_keeps_the_old_folder(tmp_path):
    with whole(tmp_path / "store") as partial:
        partial.mkdir()
        (partial / ".zgroup").touch()
        (partial / "old").mkdir()
        (partial / "old" / ".zarray").touch()
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "store", KeyboardInterrupt())
    assert names(tmp_path) == ["store"]
    assert names(tmp_path / "store") == [".zgroup", "old"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="can't be written"),
        whole(tmp_path / "file" / "a.txt") as partial,
    ):
        partial.write_text("x")
    with pytest.raises(InputError, match="not a folder"):
        claim(tmp_path / "file" / "a.txt")


def test_results_are_not_replaced_unasked(tmp_path):
    claim(tmp_path / "none" / "a.txt")
    assert names(tmp_path) == []
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=r"a\.txt: is there already; --overwrite replaces it"):
        claim(tmp_path / "b.txt", tmp_path / "a.txt")
    permit_overwriting(True)
    claim(tmp_path / "a.txt")


def test_the_summary_names_each_file_once(tmp_path):
    assert summary() == ""
    for name in ("a.txt", "b.txt", "a.txt"):
        with whole(tmp_path / name) as partial:
            partial.write_text(name)
    note(tmp_path / "deep" / "c.txt")
    assert summary() == f"wrote a.txt, b.txt in {tmp_path}; c.txt in {tmp_path / 'deep'}"


def test_what_was_written_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    reached = []

    def fsync(handle):
        reached.append(os.readlink(f"/proc/self/fd/{handle}"))
        assert not (tmp_path / "store").exists()

    monkeypatch.setattr(os, "fsync", fsync)
    with whole(tmp_path / "store") as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "a").write_text("a")
        (partial / "deep" / "b").write_text("b")
    assert sorted(path[-1] for path in reached) == ["a", "b"]


def test_a_device_is_never_replaced(tmp_path):
    permit_overwriting(True)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="neither a file nor a folder"):
        claim(pipe)
    with pytest.raises(InputError, match="neither a file nor a folder"), whole(pipe):
        pass
    assert pipe.is_fifo()


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    store, link = tmp_path / "theirs", tmp_path / "mine.zarr"
    store.mkdir()
    (store / "zarr.json").write_text("{}")
    link.symlink_to(store, target_is_directory=True)
    permit_overwriting(True)
    with whole(link) as partial:
        partial.mkdir()
        (partial / "zarr.json").write_text("new")
    assert (link / "zarr.json").read_text() == "new"
    assert not link.is_symlink()
    assert (store / "zarr.json").read_text() == "{}"
    assert names(tmp_path) == ["mine.zarr", "theirs"]


def test_what_is_kept_of_unfinished_work_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resuming() == ""
    resumable(tmp_path / "a.part")
    assert resuming() == ""  # nothing is there yet
    (tmp_path / "a.part").mkdir()
    resumable(tmp_path / "a.part")
    assert resuming() == "; a.part is kept: the same command goes on"
    permit_overwriting(False)
    assert resuming() == ""

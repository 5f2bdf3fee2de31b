"""Files that appear whole or not at all, and never over somebody's results unasked.

`whole` gives a temporary name beside the final one, which replaces it once everything is on the
disk. `claim` is asked before long work: it stops where results of an earlier run would be
replaced, unless the command line said ``--overwrite``.  A folder is only replaced where it is a
zarr store, or holds a graph's tensors, and nothing besides.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffsmc.shell.errors import InputError

__all__ = [
    "claim",
    "note",
    "overwrite",
    "permit_overwriting",
    "protect",
    "relative",
    "resumable",
    "resuming",
    "summary",
    "whole",
]

# What says that a folder is a zarr store, or a part of one, and what else may lie in it.
_MARKS = {"zarr.json", ".zgroup", ".zarray"}
_CHUNKS = "c"
_BESIDE = {*_MARKS, ".zattrs", ".zmetadata"}
# The tensors of a graph as folders keep them.
_TENSORS = re.compile(r"(g2m|m2g|m2m|mesh)(_\w+)?\.pt|metainfo\.yaml")

_permitted = False
_written: list[Path] = []
_resumable: list[Path] = []
_read: set[Path] = set()


def permit_overwriting(permitted: bool) -> None:
    """Say for this process whether results of an earlier run may be replaced."""
    global _permitted
    _permitted = permitted
    _written.clear()
    _resumable.clear()
    _read.clear()


def overwrite() -> bool:
    """Whether results of an earlier run may be replaced."""
    return _permitted


def claim(*paths: str | os.PathLike[str]) -> None:
    """Make sure, before long work, that its results can be written.

    Arguments:
        paths: Files or folders that the work will write.

    Raises:
        InputError: One exists and may not be replaced, or can't be written where it is wanted.
    """
    for path in map(Path, paths):
        above = next(parent for parent in path.absolute().parents if parent.exists())
        if not above.is_dir():
            raise InputError(f"{path}: can't be written: {above} is not a folder")
        if not os.access(above, os.W_OK):
            raise InputError(f"{path}: can't be written: no permission in {above}")
        _refuse_foreign(path)
        if path.exists() and not _permitted:
            raise InputError(f"{path}: is there already; --overwrite replaces it")


def _refuse_foreign(path: Path) -> None:
    """Never put a result in the place of a device, or of a folder that holds other things."""
    if path.resolve() in _read:
        raise InputError(f"{path}: is read by this command, and can't be its output")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: neither a file nor a folder; a result can't replace it")
    inside = list(path.iterdir()) if path.is_dir() else []
    if inside and not _is_result(inside):
        raise InputError(f"{path}: a folder with other files, which isn't replaced; name another")


def _is_result(inside: list[Path]) -> bool:
    """Whether a folder is a zarr store, or one of a graph's tensors, and nothing besides."""
    names = {entry.name for entry in inside}
    if all(_TENSORS.fullmatch(name) for name in names):
        return True
    parts = (entry for entry in inside if entry.name not in _BESIDE)
    return bool(_MARKS & names) and all(_is_part(entry) for entry in parts)


def _is_part(entry: Path) -> bool:
    """Whether an entry of a store is an array, a group, or the chunks of the one array it is."""
    marked = entry.is_dir() and any((entry / mark).is_file() for mark in _MARKS)
    return marked or (entry.is_dir() and entry.name == _CHUNKS)


def protect(path: str | os.PathLike[str]) -> None:
    """Say that a file is read: no result may take its place, not even with ``--overwrite``."""
    _read.add(Path(path).resolve())


@contextmanager
def whole(path: str | os.PathLike[str], *, told: bool = True) -> Iterator[Path]:
    """A temporary path, to be written as a file or folder, that becomes ``path`` at the end.

    It lies beside ``path`` and keeps its suffix. What was written is flushed to the disk before
    it is renamed; where the block raises, it is removed, and ``path`` stays as it was.

    Arguments:
        path: Final name; folders above it are made.
        told: Count it among what this process has written.

    Raises:
        InputError: The place can't be written.
    """
    final = Path(path)
    _refuse_foreign(final)
    partial = final.with_name(f".part-{os.getpid()}-{final.name}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        _flush(partial)
        _replace(partial, final)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"{final}: can't be written ({error.strerror})") from error
    finally:
        _remove(partial)
    if told:
        note(final)


def note(path: str | os.PathLike[str]) -> None:
    """Count a file or folder among what this process has written."""
    if Path(path) not in _written:
        _written.append(Path(path))


def resumable(path: str | os.PathLike[str]) -> None:
    """Say that unfinished work is kept in a file or folder, from which the same command goes on."""
    if Path(path) not in _resumable:
        _resumable.append(Path(path))


def resuming() -> str:
    """End of the line on an interruption: what is kept, or nothing."""
    kept = [str(relative(path)) for path in _resumable if path.exists()]
    return f"; {', '.join(kept)} is kept: the same command goes on" if kept else ""


def relative(path: Path) -> Path:
    """A path as one would write it here: from the current folder on where it lies in it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _flush(path: Path) -> None:
    """Bring a file, or all files of a folder, to the disk."""
    files = [found for found in path.rglob("*") if found.is_file()] if path.is_dir() else [path]
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _replace(partial: Path, final: Path) -> None:
    if not (partial.is_dir() and final.is_dir()):
        os.replace(partial, final)
        return
    # A folder with content can't be replaced in one call: the old one stands aside for a moment.
    aside = final.with_name(f".old-{os.getpid()}-{final.name}")
    os.rename(final, aside)
    try:
        os.rename(partial, final)
    except OSError:
        os.rename(aside, final)
        raise
    # A link to a folder goes alone: what it leads to is somebody's.
    _remove(aside)


def summary() -> str:
    """One line on what this process has written, or nothing."""
    folders: dict[Path, list[str]] = {}
    for path in _written:
        folders.setdefault(path.parent, []).append(path.name)
    places = (f"{', '.join(names)} in {folder}" for folder, names in folders.items())
    return f"wrote {'; '.join(places)}" if folders else ""

"""Opening data by what they are: a zarr or NetCDF store, or the configuration of upstream's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neural_lam.data.meps import MepsStore
from neural_lam.data.mllam import PreparedStore, read_yaml
from neural_lam.fields.datastore import Datastore
from neural_lam.fields.store import FieldStore
from neural_lam.shell.errors import InputError

__all__ = ["open_datastore", "open_upstream"]

_KINDS: dict[str, type[PreparedStore] | type[MepsStore]] = {
    "mdp": PreparedStore,
    "npyfilesmeps": MepsStore,
}


def open_upstream(config: str) -> PreparedStore | MepsStore:
    """The datastore that a ``config.yaml`` of neural-lam 0.7 names.

    Raises:
        InputError: The file is broken, or names another kind of datastore.
    """
    content = read_yaml(config).get("datastore")
    if not isinstance(content, dict) or not {"kind", "config_path"} <= set(content):
        raise InputError(f"{config}: datastore: expected kind and config_path, got {content}")
    if content["kind"] not in _KINDS:
        raise InputError(
            f"{config}: datastore.kind: expected {' or '.join(_KINDS)}, got {content['kind']!r}"
        )
    place = str(Path(config).parent / content["config_path"])
    return _KINDS[content["kind"]](place)


def open_datastore(
    path: str | Sequence[str],
    variables: Sequence[str],
    *,
    rename: Mapping[str, str] | None = None,
    select: Mapping[str, Any] | None = None,
) -> Datastore:
    """Files of fields by their variables, or by its ``config.yaml`` an upstream datastore."""
    if isinstance(path, str) and path.endswith((".yaml", ".yml")):
        return open_upstream(path)
    return FieldStore(path, variables, rename=rename, select=select)

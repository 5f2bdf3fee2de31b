"""Configurations: found by name, and read only where they are safe to read.

Nothing here imports torch, so that the command's help stays fast.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from diffsmc.shell.errors import InputError

__all__ = ["check_yaml", "near_miss", "read_config", "resolve_configs", "shipped_configs"]


def near_miss(name: str, candidates: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the closest candidate, or nothing."""
    lower = {candidate.lower(): candidate for candidate in candidates}
    close = get_close_matches(name.lower(), list(lower), n=1)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with the package, by file name."""
    here = Path(__file__).parents[1]
    # A wheel has them inside the package, a checkout beside src/.
    folders = (here / "configs", here.parents[1] / "configs")
    return {path.name: path for folder in folders for path in sorted(folder.rglob("*.yaml"))}


def resolve_configs(arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Replace the names of shipped configurations by their paths.

    Arguments:
        arguments: Command line after the verb's name; ``--config X``, ``-c X`` and
            ``--config=X`` count.

    Returns:
        The command line with paths, and the configuration files in the order given.

    Raises:
        InputError: A file is missing, isn't a YAML mapping, or isn't safe to read.
    """
    resolved: list[str] = []
    files: list[Path] = []
    expected = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if expected or (option == "--config" and equals):
            path = _find(argument if expected else value)
            _check(path)
            files.append(path)
            argument = str(path) if expected else f"--config={path}"
            expected = False
        else:
            expected = argument in {"--config", "-c"}
        resolved.append(argument)
    if expected:
        raise InputError("--config: expected a file")
    return resolved, files


def _find(name: str) -> Path:
    if Path(name).is_file():
        return Path(name)
    if Path(name).is_dir():
        raise InputError(f"{name}: expected a configuration file, got a folder")
    shipped = shipped_configs()
    if name in shipped:
        return shipped[name]
    neighbours = [str(path) for path in Path(name).parent.glob("*.y*ml")]
    raise InputError(f"{name}: no such file{near_miss(name, [*shipped, *neighbours])}")


def read_config(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: It can't be read, isn't YAML, or isn't safe to read.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
        check_yaml(text)
        return yaml.safe_load(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{path}: {line}{error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path}: not a YAML text file ({error})".replace("\n", " ")) from None


# No configuration of a person comes near these; a file that passes them isn't one.
_DEEPEST, _LARGEST = 50, 100_000


def check_yaml(text: str) -> None:
    """Refuse what a parser would choke on, or read otherwise than it looks.

    Aliases may repeat a node, but neither contain themselves nor multiply into more than
    100 000 values (a few hundred bytes can stand for billions); mappings are nested 50 deep at
    most; a key stands once in its mapping.

    Raises:
        InputError: The text is one of these; the message has the line.
        yaml.YAMLError: The text isn't YAML.
    """
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise InputError(f"nested more than {_DEEPEST} deep")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None:
        _count(node, {}, ())


def _count(node: Any, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Values that a node stands for once its aliases are written out."""
    import yaml

    if id(node) in known:
        return known[id(node)]
    line = node.start_mark.line + 1
    if id(node) in above:
        raise InputError(f"line {line}: an anchor contains itself")
    children: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                second = key.start_mark.line + 1
                raise InputError(f"line {second}: the key {key.value!r} stands there twice")
            seen.add((key.tag, key.value))
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = list(node.value)
    total = 1 + sum(_count(child, known, (*above, id(node))) for child in children)
    if total > _LARGEST:
        raise InputError(f"line {line}: stands for more than {_LARGEST} values")
    known[id(node)] = total
    return total


def _check(path: Path) -> None:
    content = read_config(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a mapping of options, got {type(content).__name__}")
    _check_objects(path, content, ())


def _check_objects(path: Path, node: object, keys: tuple[str, ...]) -> None:
    """A mapping with a ``class_path`` has only the keys that describe an object."""
    if isinstance(node, Mapping):
        allowed = ("class_path", "init_args", "dict_kwargs")
        if "class_path" in node and not isinstance(node["class_path"], str):
            where = ".".join([*keys, "class_path"])
            given = node["class_path"]
            raise InputError(f"{path}: {where}: expected the name of a class, got {given!r}")
        if "init_args" in node and "class_path" not in node:
            where = ".".join([*keys, "class_path"])
            raise InputError(f"{path}: {where}: required beside init_args, but not given")
        for key, value in node.items():
            if "class_path" in node and key not in allowed:
                where = ".".join([*keys, str(key)])
                raise InputError(f"{path}: {where}: not accepted{near_miss(str(key), allowed)}")
            _check_objects(path, value, (*keys, str(key)))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            _check_objects(path, value, (*keys, str(position)))

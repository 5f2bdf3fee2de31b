"""Configurations: found by name, read, and explained in one line when they are wrong.

A wrong configuration answers with the file, the path of the key, what was expected and
a near miss::

    qm9.yaml: model.init_args.hiden: not accepted; did you mean 'hidden'?

Nothing here imports torch, so that the command's help stays fast.
"""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from diffsmc.shell.errors import InputError

__all__ = ["explain", "innermost", "near_miss", "resolve_configs", "shipped_configs"]


def near_miss(name: str, candidates: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the closest candidate, or nothing."""
    close = get_close_matches(name, list(candidates), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with the package, by file name."""
    here = Path(__file__).parents[1]
    # A wheel has them inside the package, a checkout beside src/.
    folders = (here / "configs", here.parents[1] / "configs")
    return {path.name: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def resolve_configs(arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Replace the names of shipped configurations by their paths.

    Arguments:
        arguments: Command line after the verb's name; ``--config X``, ``-c X`` and
            ``--config=X`` count.

    Returns:
        The command line with paths, and the configuration files in the order given.

    Raises:
        InputError: A file is missing or isn't a YAML mapping.
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
    shipped = shipped_configs()
    if name in shipped:
        return shipped[name]
    neighbours = [str(path) for path in Path(name).parent.glob("*.y*ml")]
    raise InputError(f"{name}: no such file{near_miss(name, [*shipped, *neighbours])}")


def _read(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{path}: {line}{error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a YAML text file ({error})".replace("\n", " ")) from None


def _check(path: Path) -> None:
    content = _read(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a mapping of options, got {type(content).__name__}")
    _check_objects(path, content, ())


def _check_objects(path: Path, node: object, keys: tuple[str, ...]) -> None:
    """A mapping with a ``class_path`` has only the keys that describe an object."""
    if isinstance(node, Mapping):
        allowed = ("class_path", "init_args", "dict_kwargs")
        for key, value in node.items():
            if "class_path" in node and key not in allowed:
                where = ".".join([*keys, str(key)])
                raise InputError(f"{path}: {where}: not accepted{near_miss(str(key), allowed)}")
            _check_objects(path, value, (*keys, str(key)))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            _check_objects(path, value, (*keys, str(position)))


def explain(
    message: str, files: Sequence[Path], options: Iterable[str], arguments: Sequence[str] = ()
) -> str:
    """One line out of the parser's explanation of a wrong configuration.

    The parser nests its messages: keys (``Parser key "model"``), classes (``Problem with
    given class_path 'm.C'``), and at the innermost place the reason. The keys become the
    path, the innermost class or the verb's options give the near miss.

    Arguments:
        message: What the parser says.
        files: Configuration files of this command line, to name the one that holds the key.
        options: Dotted names that the verb accepts.
        arguments: The command line, to tell its own options from a file's.
    """
    keys, class_path = _trail(message)
    unknown = re.search(
        r"(?:does not accept option|Option|unrecognized arguments:?) ['\"]?(?:--)?([\w.]+)", message
    )
    required = re.search(r"arguments are required: (.+)", message)
    if unknown:
        accepted = _parameters(class_path) if class_path else sorted(options)
        keys, reason = _unknown([*keys, *unknown[1].split(".")], unknown[1], accepted)
    elif required:
        names = [name.strip().split(".", 1)[-1] for name in required[1].split(",")]
        keys, reason = [*keys, ", ".join(names)], "required, but not given"
    else:
        reason = innermost(message)
    return f"{_place(files, keys, arguments)}{'.'.join(keys) or 'command line'}: {reason}"


def _trail(message: str) -> tuple[list[str], str | None]:
    keys: list[str] = []
    class_path = None
    pattern = r"Parser key \"([\w.]+)\"|Problem with given class_path '([\w.]+)'"
    for match in re.finditer(pattern, message):
        if match[1]:
            keys += match[1].split(".")
        else:
            keys.append("init_args")
            class_path = match[2]
    if ("module" in message and "has no attribute" in message) or "No module named" in message:
        keys = [*keys[:-1], "class_path"] if keys[-1:] == ["init_args"] else keys
    return keys, class_path


def _unknown(keys: list[str], option: str, accepted: Sequence[str]) -> tuple[list[str], str]:
    """The path up to its first unknown part, and the sibling closest to that part."""
    parts = option.split(".")
    names = [name.split(".") for name in accepted]
    for depth, part in enumerate(parts):
        siblings = {n[depth] for n in names if n[:depth] == parts[:depth] and len(n) > depth}
        if part not in siblings:
            known = keys[: len(keys) - len(parts) + depth + 1]
            return known, f"not accepted{near_miss(part, siblings)}"
    return keys, "not accepted"


def _parameters(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    cls = getattr(import_module(module), name, None)
    if inspect.isfunction(cls):
        return list(inspect.signature(cls).parameters)
    if not inspect.isclass(cls):
        return []
    names = [
        parameter.name
        for base in inspect.getmro(cls)[:-1]
        if "__init__" in vars(base)
        for parameter in inspect.signature(vars(base)["__init__"]).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    return [name for name in dict.fromkeys(names) if name != "self"]


def _place(files: Sequence[Path], keys: Sequence[str], arguments: Sequence[str]) -> str:
    """``file: `` for the file that holds most of the path; nothing for the command line."""
    dotted = ".".join(key for key in keys if key != "init_args")
    if any(word.partition("=")[0] == f"--{dotted}" for word in arguments):
        return ""
    depths = [_depth(_read(path), keys) for path in files]
    if len(files) == 1 or (depths and max(depths) > 0):
        # The last file wins, as it does in the parser.
        best = max(range(len(files)), key=lambda position: (depths[position], position))
        return f"{files[best]}: "
    return ""


def _depth(node: Any, keys: Sequence[str]) -> int:
    for depth, key in enumerate(keys):
        if not isinstance(node, Mapping) or key not in node:
            return depth
        node = node[key]
    return len(keys)


_FRAME = (
    "Parser key", "Problem with", "Does not validate", "Subtypes", "Errors:", "Given value",
    "Expected a <class 'NoneType'>",
)  # fmt: skip


def innermost(message: str) -> str:
    """The innermost statement, or every type that would have been accepted."""
    lines = (line.strip(" -") for line in message.splitlines())
    statements = [re.sub(r'^Parser key "[\w.]+":\s*', "", line) for line in lines]
    leaves = [line for line in statements if line and not line.startswith(_FRAME)]
    other = [line for line in leaves if not re.match(r"Expected an? <class", line)]
    if other or not leaves:
        return _with_near_miss((other or statements)[-1])
    # Outer unions repeat what their members expected: the innermost block comes last.
    inner = message.rsplit("Parser key", 1)[-1]
    types = re.findall(r"Expected an? <class '([\w.]+)'>", inner)
    names = [name.rsplit(".", 1)[-1] for name in dict.fromkeys(types) if name != "NoneType"]
    given = re.search(r"Got value: (.*)", inner) or re.search(r"Given value: (.*)", inner)
    return f"expected {' or '.join(names)}, got {given[1].strip() if given else 'nothing'}"


def _with_near_miss(leaf: str) -> str:
    match = re.match(r"module '([\w.]+)' has no attribute '(\w+)'", leaf)
    if not match:
        return leaf
    names = [name for name in dir(import_module(match[1])) if not name.startswith("_")]
    return leaf + near_miss(match[2], names)

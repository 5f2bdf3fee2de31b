"""A wrong configuration explained in one line: the file, the key, what was expected, a near miss.

::

    qm9.yaml: model.init_args.hiden: not accepted; did you mean 'hidden'?
"""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from latentgeom.shell.configuration import near_miss, read_config
from latentgeom.shell.errors import InputError

__all__ = ["check_keys", "explain", "innermost"]


def check_keys(files: Sequence[Path], options: Iterable[str]) -> None:
    """Refuse keys that no option begins with: the parser drops those with an empty mapping.

    Arguments:
        files: Configuration files.
        options: Dotted names that the verb accepts.

    Raises:
        InputError: A key is unknown.
    """
    accepted = list(options)
    # An object has only its own help beside it; its options are the parser's to look at.
    nested = {name.partition(".")[0] for name in accepted if "." in name.removesuffix(".help")}
    for path in files:
        content = read_config(path)
        for key in nested & set(content):
            if not isinstance(content[key], Mapping | type(None)):
                raise InputError(f"{path}: {key}: expected a mapping, got {content[key]!r}")
        deeper = [(key, inner) for key in nested & set(content) for inner in content[key] or ()]
        for keys in [*((key,) for key in content), *deeper]:
            dotted = ".".join(map(str, keys))
            if not any(name == dotted or name.startswith(f"{dotted}.") for name in accepted):
                known, reason = _unknown([str(key) for key in keys], dotted, accepted)
                raise InputError(f"{path}: {'.'.join(known)}: {reason}")


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
    message = _flatten_callables(message)
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


def _flatten_callables(message: str) -> str:
    """Say of a class behind a callable what the parser says of other classes."""
    return re.sub(
        r"Type \S*Callable\[.*?\] expects a function or a callable class: (.*?)"
        r"\.? Got value: Namespace\(class_path='([\w.]+)'.*",
        r"Problem with given class_path '\2':\n\1",
        message,
        flags=re.DOTALL,
    )


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
        for parameter in list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    return list(dict.fromkeys(names))


def _place(files: Sequence[Path], keys: Sequence[str], arguments: Sequence[str]) -> str:
    """``file: `` for the file that holds most of the path; nothing for the command line."""
    dotted = ".".join(key for key in keys if key != "init_args")
    words = [word.partition("=")[0].replace(".init_args", "") for word in arguments]
    if any(word == f"--{dotted}" for word in words):
        return ""
    depths = [_depth(read_config(path), keys) for path in files]
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
    types = re.findall(r"Expected an? <class '(?!NoneType')([\w.]+)'>", inner)
    names = [name.rsplit(".", 1)[-1] for name in dict.fromkeys(types)]
    given = re.search(r"Got value: (.*)", inner) or re.search(r"Given value: (.*)", inner)
    return f"expected {' or '.join(names)}, got {given[1].strip() if given else 'nothing'}"


def _with_near_miss(leaf: str) -> str:
    match = re.match(r"module '([\w.]+)' has no attribute '(\w+)'", leaf)
    if not match:
        return leaf
    names = [name for name in dir(import_module(match[1])) if not name.startswith("_")]
    return leaf + near_miss(match[2], names)

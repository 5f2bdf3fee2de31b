"""Mistakes and attacks: what a user or a stranger's file does, and the line that answers.

A `Fault` is a command line with the files it needs. Those that every package must answer alike
are made by `common`; those of a package's own verbs stand in `OWN`.
"""

import copy
import os
import pickle
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml


@dataclass(frozen=True)
class Fault:
    """A mistake or an attack.

    Attributes:
        name: What is wrong, in words.
        arguments: The command line.
        says: Regular expressions that the one line must match.
        files: Files by name, made before: text or bytes.
        before: Makes other files: called with the folder, or a change of a checkpoint.
        code: Exit code.
        signal: Sent once a file matching ``after`` is there.
        after: Pattern of that file.
    """

    name: str
    arguments: list[str]
    says: tuple[str, ...]
    files: dict[str, str | bytes] = field(default_factory=dict)
    before: "Callable[[Path], None] | Change | None" = None
    code: int = 2
    signal: int | None = None
    after: str = ""


@dataclass(frozen=True)
class Subject:
    """What the common faults need to know of a package.

    Attributes:
        config: A configuration that trains in seconds.
        option: An option of the model.
        batch: Where the size of a batch stands.
        checkpoint: A checkpoint of that configuration.
        foreign: A checkpoint of another package.
        verbs: Command lines of verbs that read a checkpoint, without ``--ckpt_path``.
    """

    config: dict[str, Any]
    option: str
    checkpoint: Path
    foreign: Path
    verbs: tuple[tuple[str, ...], ...]
    batch: str = "batch_size"


def changed(config: dict[str, Any], path: str, value: Any) -> str:
    """A configuration as YAML with one value set."""
    config = copy.deepcopy(config)
    *above, last = path.split(".")
    node = config
    for key in above:
        node = node.setdefault(key, {})
    node[last] = value
    return yaml.safe_dump(config)


def bomb() -> str:
    """430 bytes that stand for a billion values."""
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(["a0: &a0 [x]", *levels])


class _Trap:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


class Change(NamedTuple):
    """A checkpoint with something changed; made where torch is at hand, as ``a.ckpt``."""

    kind: str
    source: Path


_EVIL = "open('executed', 'w').close()\n\n\nclass Model:\n    pass\n\n\ndef execute():\n    pass\n"


def common(subject: Subject) -> list[Fault]:
    """What every package answers alike."""
    config, good = subject.config, yaml.safe_dump(subject.config)
    fit = ["fit", "--config", "my.yaml"]
    faults = [
        Fault("verb misspelt", ["fitt"], (r"fitt: not a verb; did you mean 'fit'",)),
        Fault("no file after --config", ["fit", "--config"], (r"--config: expected a file",)),
        Fault("configuration missing", fit, (r"my\.yaml: no such file",)),
        Fault(
            "folder as configuration",
            ["fit", "--config", "."],
            (r"\.: expected a .*file, got a folder",),
        ),
        Fault(
            "unknown option",
            [*fit, "--trainer.max_step", "2"],
            (r"trainer\.max_step: not accepted; did you mean 'max_steps'",),
            {"my.yaml": good},
        ),
    ]

    def text(name: str, content: str | bytes, *says: str) -> None:
        faults.append(Fault(name, fit, (r"my\.yaml: ", *says), {"my.yaml": content}))

    text("configuration is a list", "- fit\n", "expected a mapping of options, got list")
    text("configuration is empty", "", "expected a mapping of options, got NoneType")
    text("YAML doesn't end", "model: [1, 2", "line 1")
    text("configuration is no text", b"\xff\xfe\x00\x80", "not a YAML text file")
    text("aliases that multiply", bomb(), "stands for more than")
    text("anchor within itself", "model: &a [*a]", "contains itself")
    text("nested 3000 deep", "[" * 3000 + "]" * 3000, "nested more than")
    text(
        "key given twice",
        good + "seed_everything: 1\nseed_everything: 2\n",
        "seed_everything",
        "twice",
    )

    def value(name: str, path: str, content: Any, *says: str) -> None:
        text(name, changed(config, path, content), *says)

    value(
        "unknown key with nothing in it", "modle", {}, r"modle: not accepted; did you mean 'model'"
    )
    value(
        "unknown key",
        "trainer.max_epoch",
        1,
        r"trainer\.max_epoch: not accepted; did you mean 'max_epochs'",
    )
    value(
        "unknown key of the trainer with nothing in it",
        "trainer.max_epoch",
        {},
        r"trainer\.max_epoch: not accepted",
    )
    value(
        "option of the model misspelt",
        f"model.init_args.{subject.option}s",
        1,
        rf"{subject.option}s: not accepted; did you mean '{subject.option}'",
    )
    value(
        "class_path is a number",
        "model.class_path",
        5,
        r"model\.class_path: expected the name of a class, got 5",
    )
    value(
        "class of that name doesn't exist",
        "model.class_path",
        config["model"]["class_path"][:-1],
        r"model\.class_path",
        "did you mean",
    )
    value("module doesn't exist", "model.class_path", "nowhere.Model", "nowhere")
    value("trainer is a number", "trainer", 5, "trainer")
    value("no devices", "trainer.devices", 0, "devices")
    for name in ("accumulate_grad_batches", "val_check_interval", "check_val_every_n_epoch"):
        says = rf"trainer\.{name}: expected a positive number, got 0"
        value(f"{name} of nothing", f"trainer.{name}", 0, says)
    value("devices in words", "trainer.devices", "two", "devices|two")
    value(
        "an accelerator that isn't there", "trainer.accelerator", "gpu", "accelerator|CUDA|gpu|GPU"
    )
    value("an accelerator that nobody has", "trainer.accelerator", "quantum", "quantum|accelerator")
    value(
        "negative seed", "seed_everything", -1, r"seed_everything: expected 0 to 4294967295, got -1"
    )
    value("enormous seed", "seed_everything", 2**70, "seed_everything")
    value(
        "epochs in words",
        "trainer.max_epochs",
        "many",
        r"trainer\.max_epochs: expected int, got many",
    )
    value("empty batches", f"data.init_args.{subject.batch}", 0, subject.batch, "0")
    value("negative batches", f"data.init_args.{subject.batch}", -4, subject.batch, "-4")
    larger = changed(config, f"data.init_args.{subject.batch}", 10**7)
    faults.append(Fault("larger batches than samples", fit, (subject.batch,), {"my.yaml": larger}))
    value(
        "negative learning rate",
        "model.init_args.learning_rate",
        -1.0,
        r"learning_rate|learning rate",
        r"-1",
    )
    value(
        "learning rate that is no number",
        "model.init_args.learning_rate",
        float("nan"),
        r"learning_rate",
        "nan",
    )
    value(
        "learning rate in words",
        "model.init_args.learning_rate",
        "fast",
        r"learning_rate: expected float, got fast",
    )
    value("weights_only in the configuration", "weights_only", False, "weights_only: not accepted")
    broken = copy.deepcopy(config)
    del broken["model"]["class_path"]
    text("class_path missing", yaml.safe_dump(broken), r"model\.class_path: required")
    nothing = {key: value for key, value in config.items() if key != "model"}
    text("no model", yaml.safe_dump(nothing), "model")

    resumed = [*fit, "--ckpt_path", "a.ckpt"]

    def checkpoint(
        name: str,
        content: bytes | Callable[[Path], None] | Change | None,
        *says: str,
        extra: dict[str, str] | None = None,
    ) -> None:
        files: dict[str, str | bytes] = {"my.yaml": good, **(extra or {})}
        if isinstance(content, bytes):
            files["a.ckpt"] = content
        before = None if isinstance(content, bytes) else content
        faults.append(Fault(name, resumed, (r"a\.ckpt: ", *says), files, before))

    whole = subject.checkpoint.read_bytes()
    checkpoint("checkpoint missing", None, "no such checkpoint")
    checkpoint("checkpoint is a folder", lambda folder: (folder / "a.ckpt").mkdir(), "a folder")
    checkpoint("checkpoint is empty", b"", "empty or damaged")
    checkpoint("checkpoint is truncated", whole[: len(whole) // 2], "damaged")
    for letter in (b"Q", b"M", b"\x80"):
        checkpoint(f"checkpoint is the byte {letter!r}", letter, "damaged|not a checkpoint")
    checkpoint("checkpoint is text", b"state_dict: 1\n" * 50, "not a checkpoint|damaged")
    checkpoint(
        "checkpoint that runs code", pickle.dumps({"state_dict": _Trap()}), "not a checkpoint"
    )
    checkpoint(
        "checkpoint names a class of others",
        Change("name", subject.checkpoint),
        r"evil\.Model",
        extra={"evil.py": _EVIL},
    )
    checkpoint(
        "checkpoint nests a class of others",
        Change("nest", subject.checkpoint),
        r"evil\.Model",
        extra={"evil.py": _EVIL},
    )
    checkpoint(
        "checkpoint names a function of others",
        Change("function", subject.checkpoint),
        r"evil\.execute",
        extra={"evil.py": _EVIL},
    )
    checkpoint(
        "checkpoint of another class",
        Change("nothing", subject.foreign),
        r"made by [\w.]+; the configuration expects [\w.]+",
    )
    checkpoint("weights missing", Change("drop", subject.checkpoint), "not of this model|another")
    checkpoint(
        "weights of other names", Change("rename", subject.checkpoint), "not of this model|another"
    )
    checkpoint(
        "weights of other shapes",
        Change("reshape", subject.checkpoint),
        "not of this model|another",
    )
    checkpoint("weights alone", Change("lighten", subject.checkpoint), "weights alone")
    checkpoint(
        "callbacks that name somebody's files",
        Change("escape", subject.checkpoint),
        "its callbacks name files",
        extra={"thesis.tex": "years of work"},
    )
    checkpoint("no state of the optimizer", Change("moments", subject.checkpoint), "optimizer")
    checkpoint("loops that are numbers", Change("loops", subject.checkpoint), "can't be restored")
    checkpoint("weights that are no numbers", Change("poison", subject.checkpoint), "not finite")

    for address in (
        "http://127.0.0.1:9/a.ckpt",
        "https://127.0.0.1:9/a.ckpt",
        "file://a.ckpt",
        "s3://bucket/a.ckpt",
        "registry:a",
    ):
        says = (rf"{re.escape(address)}: ckpt_path must be a local file",)
        faults.append(
            Fault(
                f"checkpoint at {address.partition(':')[0]}",
                [*fit, "--ckpt_path", address],
                says,
                {"my.yaml": good},
            )
        )
    unsafe = [*fit, "--ckpt_path", "http://127.0.0.1:9/a.ckpt", "--weights_only", "false"]
    faults.append(
        Fault(
            "checkpoint at http, to be executed",
            unsafe,
            ("weights_only: not accepted",),
            {"my.yaml": good},
        )
    )
    text(
        "checkpoint at http in the configuration",
        changed(config, "ckpt_path", "http://127.0.0.1:9/a.ckpt"),
    )
    faults[-1] = Fault(faults[-1].name, fit, ("ckpt_path must be a local file",), faults[-1].files)

    for verb in subject.verbs:
        arguments = [verb[0], "--config", "my.yaml", "--ckpt_path", "a.ckpt", *verb[1:]]
        files: dict[str, str | bytes] = {"my.yaml": good}
        for name, content, says in (
            ("no numbers as weights", Change("poison", subject.checkpoint), "not finite"),
            ("weights missing", Change("drop", subject.checkpoint), "not of this model|another"),
        ):
            faults.append(
                Fault(f"{verb[0]}: {name}", arguments, (r"a\.ckpt: ", says), files, content)
            )
        faults.append(
            Fault(
                f"{verb[0]}: checkpoint missing",
                arguments,
                (r"a\.ckpt: no such checkpoint",),
                files,
            )
        )
        faults.append(
            Fault(
                f"{verb[0]}: checkpoint that runs code",
                arguments,
                (r"a\.ckpt: ",),
                {**files, "a.ckpt": pickle.dumps(_Trap())},
            )
        )

    faults.append(
        Fault(
            "run's folder is a file",
            fit,
            ("run",),
            {"my.yaml": changed(config, "trainer.default_root_dir", "run"), "run": ""},
        )
    )
    faults.append(
        Fault(
            "another run's checkpoint is there",
            fit,
            (r"run/checkpoints/old\.ckpt: ", "--overwrite"),
            {
                "my.yaml": changed(config, "trainer.default_root_dir", "run"),
                "run/checkpoints/old.ckpt": whole,
            },
        )
    )
    faults.append(
        Fault(
            "export over a file",
            ["export", "--ckpt_path", "a.ckpt", "--output", "b"],
            (r"b: is there already; --overwrite",),
            {"a.ckpt": whole, "b": ""},
        )
    )
    faults.append(
        Fault(
            "export of junk",
            ["export", "--ckpt_path", "a.ckpt", "--output", "b"],
            (r"a\.ckpt: ",),
            {"a.ckpt": b"junk"},
        )
    )
    for verb in ("validate", "test", "predict"):
        faults.append(
            Fault(
                f"{verb} of weights that nobody trained",
                [verb, "--config", "my.yaml"],
                (f"ckpt_path: required: {verb} without it",),
                {"my.yaml": good},
            )
        )
    faults.append(
        Fault(
            "checkpoint of no name",
            [*fit, "--ckpt_path", ""],
            ("ckpt_path: expected a file, got an empty name",),
            {"my.yaml": good},
        )
    )
    faults.append(
        Fault(
            "export into a pipe",
            ["export", "--ckpt_path", "a.ckpt", "--output", "b", "--overwrite"],
            ("b: neither a file nor a folder",),
            {"a.ckpt": whole},
            lambda folder: os.mkfifo(folder / "b"),
        )
    )
    faults.append(
        Fault("export without a checkpoint", ["export", "--output", "b"], ("ckpt_path: required",))
    )

    long = changed(config, "trainer.max_steps", 10**6)
    for name, number, code in (("Ctrl-C", signal.SIGINT, 130), ("SIGTERM", signal.SIGTERM, 143)):
        says = (
            (r"interrupted" if code == 130 else "terminated")
            + r" at step \d+; last checkpoint: \S+\.ckpt",
            "--ckpt_path",
        )
        faults.append(Fault(name, fit, says, {"my.yaml": long}, None, code, number, "**/*.ckpt"))
    return faults

import time
from pathlib import Path

import pytest

from neural_lam.shell.configuration import check_yaml, read_config, resolve_configs
from neural_lam.shell.errors import InputError
from neural_lam.shell.explanation import check_keys, explain


def bomb(levels, width):
    lines = ["a0: &a0 [x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (bomb(20, 9), "stands for more than"),
        (bomb(40, 2), "stands for more than"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: {c: *a}}", "contains itself"),
        ("[" * 3000 + "]" * 3000, "nested more than"),
        ("a: " + "{b: " * 3000 + "1" + "}" * 3000, "nested more than"),
        ("x: 1\ny: 2\nx: 3", "line 3: the key 'x' stands there twice"),
        ("t:\n  x: 1\n  x: 1", "line 3: the key 'x' stands there twice"),
    ],
)
def test_what_chokes_a_parser_or_misleads_is_refused_at_once(text, reason):
    start = time.perf_counter()
    with pytest.raises(InputError, match=reason):
        check_yaml(text)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}",
        "a: [1, 2, 3]\nb: null",
        "",
        "a: {x: 1}\nb: {x: 1}",
        "values: [" + ", ".join(["1"] * 20_000) + "]",
    ],
)
def test_what_people_write_is_read(text):
    check_yaml(text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("- a", "expected a mapping of options, got list"),
        ("", "expected a mapping of options, got NoneType"),
        ("a: [1", "line 1"),
        ("model: {class_path: 5}", "model.class_path: expected the name of a class, got 5"),
        ("model: {init_args: {a: 1}}", "model.class_path: required beside init_args"),
        ("model: {class_path: a.B, init_arg: {}}", "did you mean 'init_args'"),
        ("a: 1\na: 2", "twice"),
    ],
)
def test_a_file_that_is_no_configuration_says_where(tmp_path, content, reason):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=reason) as raised:
        resolve_configs(["--config", str(path)])
    assert str(raised.value).startswith(f"{path}: ")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00a: \x80")
    with pytest.raises(InputError, match="not a YAML text file"):
        read_config(path)


def test_a_mark_at_the_beginning_is_no_part_of_a_key(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_config(path) == {"a": 1}


def test_a_folder_or_a_missing_file_says_so(tmp_path):
    with pytest.raises(InputError, match="expected a configuration file, got a folder"):
        resolve_configs(["--config", str(tmp_path)])
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(InputError, match=r"no such file; did you mean '.*mine\.yaml'"):
        resolve_configs(["--config", str(tmp_path / "mime.yaml")])
    with pytest.raises(InputError, match="expected a file"):
        resolve_configs(["--config"])


def test_an_unknown_key_is_refused_even_with_nothing_in_it(tmp_path):
    path = tmp_path / "mine.yaml"
    options = ["model", "data", "trainer.max_steps", "trainer.devices", "seed_everything"]
    path.write_text("model: {}\ntrainer: {max_steps: 3}")
    check_keys([path], options)
    path.write_text("modle: {}")
    with pytest.raises(InputError, match=r"modle: not accepted; did you mean 'model'"):
        check_keys([path], options)
    path.write_text("trainer: {max_step: {}}")
    with pytest.raises(InputError, match=r"trainer.max_step: not accepted; did you mean"):
        check_keys([path], options)


def test_both_spellings_of_the_option_are_resolved(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: 1")
    for words in (["--config", str(path)], [f"--config={path}"], ["-c", str(path)]):
        resolved, files = resolve_configs([*words, "--b", "2"])
        assert files == [Path(path)]
        assert resolved == [*words, "--b", "2"]


def test_a_word_of_the_command_line_is_not_blamed_on_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: {class_path: a.B, init_args: {}}")
    message = 'Parser key "model":\n  line 1: an anchor contains itself'
    config = ["--config", str(path)]
    explained = explain(message, [path], ["model"], config)
    assert explained == f"{path}: model: line 1: an anchor contains itself"
    for word in ("--model.init_args", "--model.init_args={}", "--model"):
        explained = explain(message, [path], ["model"], [*config, word])
        assert explained == "model: line 1: an anchor contains itself"

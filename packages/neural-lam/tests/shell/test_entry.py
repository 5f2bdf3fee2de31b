"""The way into the command: what an interruption leaves is said in one line of its own."""

import pytest
from tqdm import tqdm

from neural_lam.shell.entry import Command, enter
from neural_lam.shell.errors import Stopped
from neural_lam.shell.writing import resumable


def command(run):
    return Command("tool", "1.0", "usage: tool\n", ("work",), run)


@pytest.mark.parametrize(
    ("stop", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted"), (Stopped("terminated", 143), 143, "terminated")],
)
def test_an_interruption_says_what_is_kept(stop, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(words):
        (tmp_path / "a.part").touch()
        resumable(tmp_path / "a.part")
        raise stop

    assert enter(command(run), ["work"]) == code
    assert capsys.readouterr().err == (f"tool: {said}; a.part is kept: the same command goes on\n")


def test_a_message_has_a_line_of_its_own(capsys):
    def run(words):
        for number in tqdm(range(5), leave=True):
            if number == 3:
                raise KeyboardInterrupt

    assert enter(command(run), ["work"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "tool: interrupted"


@pytest.mark.parametrize(("rank", "lines"), [("none", 1), ("", 1), ("0", 1), ("1", 0)])
def test_one_rank_tells(rank, lines, monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert enter(command(lambda words: None), ["wrok"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == lines

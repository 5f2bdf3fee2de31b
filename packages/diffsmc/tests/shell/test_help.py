"""The help that is kept as text is the parser's own."""

import pytest

from diffsmc import __main__ as command
from diffsmc.cli import application
from diffsmc.shell.entry import help_file
from diffsmc.shell.help import help_texts


@pytest.fixture(scope="module")
def texts():
    return help_texts(application())


def test_every_verb_has_a_text(texts):
    assert set(texts) == {*command.VERBS, "export"}


def test_the_texts_kept_are_what_the_parsers_say(texts):
    kept = {verb: help_file(verb).read_text(encoding="utf-8") for verb in texts}
    assert kept == texts, "nox -s help writes them anew"


def test_own_options_come_before_the_fortieth_line(texts, capsys):
    for verb, text in texts.items():
        assert len(text.splitlines()) < 120, verb
        assert command.main([verb, "--help"]) == 0
        assert capsys.readouterr().out == text

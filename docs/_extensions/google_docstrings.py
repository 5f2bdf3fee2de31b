"""Docstrings with Google sections, for the static API reader."""

from docutils import nodes
from docutils.parsers.rst import Parser as RstParser
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring

__all__ = ["Parser"]

SETTINGS = Config(napoleon_use_ivar=True, napoleon_use_admonition_for_references=True)


class Parser(RstParser):
    """reStructuredText whose Google sections are turned into fields first."""

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse a docstring."""
        super().parse(str(GoogleDocstring(inputstring, SETTINGS)), document)

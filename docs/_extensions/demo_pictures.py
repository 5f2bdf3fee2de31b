"""Pictures and reports of the demos in the pages that explain them.

``nox -s demo`` writes them to ``out/<package>``; the build copies what is there. A page
built before the demo says where its picture would come from.
"""

import json
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure
from sphinx.util.docutils import SphinxDirective

DOCS = Path(__file__).parents[1]
OUT = DOCS.parent / "out"


class DemoPicture(Figure, SphinxDirective):
    """A figure whose picture a demo made: ``{demo-picture} diffsmc/evidence.png``."""

    def run(self) -> list[nodes.Node]:
        """The figure, or a note on how to make it."""
        name = self.arguments[0]
        source, copy = OUT / name, DOCS / "_pictures" / name
        self.env.note_dependency(str(source))
        if not source.is_file():
            package = name.split("/")[0]
            text = f'`{source.name}` appears here once `nox -s "demo({package})"` has run.'
            return [nodes.note("", *self.parse_text_to_nodes(text))]
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        self.arguments[0] = f"/_pictures/{name}"
        return super().run()


class DemoReport(SphinxDirective):
    """The report of a demo: ``{demo-report} diffsmc``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The report as JSON, or nothing."""
        source = OUT / self.arguments[0] / "report.json"
        self.env.note_dependency(str(source))
        if not source.is_file():
            return []
        text = json.dumps(json.loads(source.read_text()), indent=2)
        block = nodes.literal_block(text, text)
        block["language"] = "json"
        return [block]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("demo-picture", DemoPicture)
    app.add_directive("demo-report", DemoReport)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

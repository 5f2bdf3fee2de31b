"""Pictures and reports of the demos in the pages that explain them.

``nox -s demo`` writes them to ``out/<package>``; the build copies what is there. A page
built before the demo says where its picture would come from.
"""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

OUT = Path(__file__).parents[2] / "out"


class DemoPicture(SphinxDirective):
    """A picture of a demo; the content is its caption: ``{demo-picture} diffsmc/evidence.png``."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
        "width": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """The figure, or a note on how to make it."""
        source = OUT / self.arguments[0]
        self.env.note_dependency(str(source))
        package = self.arguments[0].split("/")[0]
        if not source.is_file():
            note = nodes.note()
            self.state.nested_parse(
                [f'`{source.name}` appears here once `nox -s "demo({package})"` has run.'], 0, note
            )
            return [note]
        pictures = Path(self.env.app.outdir) / "_images" / "demo" / package
        pictures.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, pictures / source.name)
        depth = "../" * self.env.docname.count("/")
        alt = self.options.get("alt", source.stem)
        attributes = f'src="{depth}_images/demo/{self.arguments[0]}" alt="{alt}"'
        width = f' style="width: {self.options["width"]}"' if "width" in self.options else ""
        figure = nodes.figure("", nodes.raw("", f"<img {attributes}{width}>", format="html"))
        caption = nodes.caption()
        parsed = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        for child in parsed.children:
            caption += child.children
        figure += caption
        return [figure]


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

"""Settings of the site: one folder a package, the API from docstrings without importing torch."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS / "_extensions"))

PACKAGES = {
    "ardm-guidance": "ardm_guidance",
    "neural-lam": "neural_lam",
    "diffsmc": "diffsmc",
    "latentgeom": "latentgeom",
}

project = "Graph-based, spatial, temporal and generative machine learning"
author = "The ardm-guidance, neural-lam, diffsmc and latentgeom developers"
copyright = "2026, the developers"

extensions = [
    "myst_parser",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_design",
    "autodoc2",
    "demo_pictures",
]
exclude_patterns = ["_build", "_extensions", "_pictures"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist", "attrs_block"]
myst_heading_anchors = 3
# Four packages have an InputError each: a bare name is resolved to the nearest.
suppress_warnings = ["myst.header", "ref.python"]

# The sources are read, never imported: the site builds without torch.
autodoc2_packages = [
    {
        "path": f"../packages/{package}/src/{module}",
        "auto_mode": True,
        "exclude_files": ["__main__.py", "cli.py"],
    }
    for package, module in PACKAGES.items()
]
autodoc2_output_dir = "apidocs"
autodoc2_render_plugin = "myst"
autodoc2_docstring_parser_regexes = [(r".*", "google_docstrings")]
autodoc2_hidden_objects = ["private", "dunder", "inherited", "undoc"]
autodoc2_index_template = None
nitpicky = False

html_theme = "pydata_sphinx_theme"
html_title = "Research packages"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}


def versions() -> dict[str, str]:
    """The version of each package, from its source."""
    found = {}
    for package, module in PACKAGES.items():
        source = (ROOT / "packages" / package / "src" / module / "__init__.py").read_text()
        found[package] = re.search(r'__version__ = "([^"]+)"', source)[1]
    return found


myst_substitutions = {f"version_{PACKAGES[name]}": value for name, value in versions().items()}

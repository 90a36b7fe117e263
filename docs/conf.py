"""How the documentation is built: `uv run --group docs sphinx-build -W --keep-going docs docs/_build`."""

project = "nameko"
author = "the nameko authors"
release = "3.0.0"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "nameko 3.0"

# Links to headings, as GitHub makes them; a link to nothing is a warning, and a warning is an error.
myst_heading_anchors = 3
nitpicky = True

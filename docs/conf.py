"""Sphinx's configuration of the documentation; `make docs` builds it into build/docs."""

import gridsample_ext

project = "gridsample_ext"
author = "the authors of gridsample_ext"
release = gridsample_ext.__version__
html_title = f"gridsample_ext {release}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
myst_heading_anchors = 3  # links such as page.md#a-heading, as on GitHub

# Signatures with one argument a line, and types as the code writes them.
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
toc_object_entries = False  # api.md has a heading for each
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# A reference to a name of ours that does not exist is an error. PyTorch's and Python's are not
# looked up, because a build needs no network.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(torch|collections)\..*")]

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

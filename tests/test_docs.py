"""The examples in README.md, in docs/ and in docstrings do what they say.

In Markdown every ```python block is run, those of a page one after the other, but for one behind
``<!-- skip: next -->``. Blocks that begin with ``>>>`` are doctests. In the others a comment behind
an expression is its value: as Python prints it, or, for a tensor, its numbers.
"""

import ast
import io
import tokenize
from pathlib import Path

import pytest
import torch

sybil = pytest.importorskip("sybil")
doctest = pytest.importorskip("sybil.parsers.doctest")
markdown = pytest.importorskip("sybil.parsers.markdown")
pytest.importorskip("onnxscript")  # which some examples export with

pytestmark = [
    # PyTorch itself uses what it has deprecated.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
    # A page shows a DataLoader whose workers are forked.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

ROOT = Path(__file__).parent.parent
PAGES = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "```python" in path.read_text() and path.name != "coming_from.md"
]  # test_coming_from.py runs that page
MODULES = [
    path for path in sorted((ROOT / "gridsample_ext").glob("*.py")) if ">>> " in path.read_text()
]


def compare_with_comment(value, comment):
    """Raise an AssertionError if a comment is not the value of the expression before it."""
    if value is None or value is ...:
        return  # a statement
    text = comment.lstrip("# ")
    if isinstance(value, torch.Tensor):
        expected = eval(text, {"tensor": torch.tensor})
        if not isinstance(expected, torch.Tensor):
            value, expected = value.flatten(), torch.as_tensor(expected).flatten()
        torch.testing.assert_close(value, expected, rtol=0, atol=5e-5, check_dtype=False)
    else:
        assert repr(value) == text


class Compared(ast.NodeTransformer):
    """Puts the comment behind an expression into a call of ``compare_with_comment``."""

    def __init__(self, comments):
        self.comments = comments

    def visit_Expr(self, node):
        """Of a statement that is an expression."""
        comment = self.comments.get(node.end_lineno)
        if comment is not None:
            name = ast.Name(compare_with_comment.__name__, ast.Load())
            node.value = ast.Call(name, [node.value, ast.Constant(comment)], [])
        return ast.fix_missing_locations(node)


def run_program(example):
    """Run a block of code whose comments are values."""
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    comments = {
        token.end[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    program = Compared(comments).visit(ast.parse(source))
    example.namespace[compare_with_comment.__name__] = compare_with_comment
    exec(compile(program, example.path, "exec"), example.namespace)


class BlockParser(markdown.PythonCodeBlockParser):
    """```python blocks: doctests, and programs."""

    def __init__(self):
        super().__init__()
        self.codeblock_parser = self.codeblock_parser_class("python", run_program)


def run(document):
    document.namespace["__name__"] = "__main__"
    ran = 0
    for example in document.examples():
        example.evaluate()
        ran += 1
    assert ran > 0


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Examples write files, and change settings."""
    monkeypatch.chdir(tmp_path)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_page(path):
    run(sybil.Document.parse(str(path), BlockParser(), markdown.SkipParser()))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_docstrings(path):
    run(sybil.document.PythonDocStringDocument.parse(str(path), doctest.DocTestParser()))


def test_wrong_values_are_found():
    compare_with_comment(torch.tensor([[1.5, 2.0]]), "# 1.5, 2.0")
    compare_with_comment((1, 2), "# (1, 2)")
    with pytest.raises(AssertionError):
        compare_with_comment(torch.tensor([[1.5, 2.0]]), "# tensor([[1.5, 2.1]])")
    with pytest.raises(AssertionError):
        compare_with_comment(torch.Size([1]), "# torch.Size([2])")

"""The public names are the same in the package, in the type stub and in docs/api.md."""

import ast
import re
from pathlib import Path

import gridsample_ext
from gridsample_ext import _C, _ops

ROOT = Path(__file__).parent.parent
API = (ROOT / "docs" / "api.md").read_text()
STUB = ast.parse((ROOT / "gridsample_ext" / "_C.pyi").read_text())

# Documented beside gridsample_ext.__all__.
IN_MODULES = {
    "distributed.register_sharding_rules",
    "onnx.translation_table",
    "patching.Patch",
}


def test_api_page_documents_the_public_names():
    directives = r"^\.\. (?:autofunction|autoclass|py:data):: gridsample_ext\.([\w.]+)(?:\(\))?$"
    documented = re.findall(directives, API, re.MULTILINE)
    assert sorted(documented) == sorted({*gridsample_ext.__all__, *IN_MODULES})


def test_public_names_exist():
    for name in gridsample_ext.__all__:
        assert hasattr(gridsample_ext, name)


def test_api_page_has_the_schemas_of_the_ops():
    blocks = re.findall(r"^```text\n(.*?)^```$", API, re.MULTILINE | re.DOTALL)
    schemas = " ".join(" ".join(blocks).split())
    for op in _ops.OPS:
        assert str(op._schema) in schemas


def test_stub_has_the_names_of_the_compiled_module():
    stubbed = set()
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef):
            stubbed.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            stubbed.add(node.target.id)
    assert stubbed == {name for name in vars(_C) if not name.startswith("_")}

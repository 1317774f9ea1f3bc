"""The support table: what the script made of its trials, and still true of this project."""

import importlib
import json
import sys
import warnings
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "docs"))
SCRIPT = vars(importlib.import_module("support_table"))  # by a name that torch.compile can import
VERSION = ".".join(torch.__version__.split("+")[0].split(".")[:2])
TRIED = ROOT / "docs" / "support" / f"{VERSION}.json"


def test_page_has_the_table_of_the_trials():
    page = SCRIPT["PAGE"].read_text()
    assert SCRIPT["with_table"](page) == page


@pytest.mark.skipif(not TRIED.exists(), reason=f"not tried with PyTorch {VERSION}")
@pytest.mark.parametrize("label", SCRIPT["FEATURES"])
def test_cells_of_this_project(label):
    tried = json.loads(TRIED.read_text())[label]["gridsample_ext"]
    looped = torch._C._functorch._is_vmap_fallback_enabled()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert SCRIPT["try_cell"](label, "gridsample_ext") == tried
    finally:
        torch._C._functorch._set_vmap_fallback_enabled(looped)

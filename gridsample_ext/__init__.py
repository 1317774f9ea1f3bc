"""A fast, complete, drop-in ``torch.nn.functional.grid_sample``."""

from gridsample_ext import out_variants as out_variants  # registers them
from gridsample_ext._version import __version__
from gridsample_ext.explaining import Explanation, explain
from gridsample_ext.exporting import decompositions
from gridsample_ext.functional import grid_sample, inside, sample_labels
from gridsample_ext.patching import patch
from gridsample_ext.splatting import splat, splat_count
from gridsample_ext.splines import spline_filter
from gridsample_ext.warping import warp

__all__ = [
    "Explanation",
    "__version__",
    "decompositions",
    "explain",
    "grid_sample",
    "inside",
    "patch",
    "sample_labels",
    "splat",
    "splat_count",
    "spline_filter",
    "warp",
]

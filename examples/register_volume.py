"""Register two scans of a head: find a hidden deformation in three dimensions.

The second scan is the first one, deformed by a hidden smooth map, by up to 8 voxels, and shaded, as
by a receiving coil that is nearer to one side. From the two scans alone, gradient descent finds the
displacement that takes the second back: recovered(p) = deformed(p + displacement(p)).

The displacement is a cubic spline: a coarse control grid, interpolated at every voxel.
``gridsample_ext.warp`` interpolates it, given an affine map and a size, and deforms the scan, given
the displacement: no grid of coordinates is built. The exit status is 1 if more than a quarter is
left of the displacement, or of the images' difference, both on average over the head.

The first scan is the MNI152 template (ICBM 2009a): the average of 152 heads, without the skull.
Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological
Institute, McGill University; free to use, copy and modify. It comes with nilearn.
"""

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

try:
    import nibabel
    import numpy as np
    import torch
    import torch.nn.functional as F
    from matplotlib.figure import Figure
    from torch import Tensor
    from tqdm import tqdm

    from gridsample_ext import warp
except ImportError as error:
    sys.exit(f"register_volume.py cannot start: {error}. `make demo` sets up all that it needs.")

TEMPLATE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"  # in nilearn
SPLINE = "bspline"  # the mode that interpolates control grids
IDENTITY = torch.eye(3, 4)[None]
LARGEST = 8.0  # displacement by the hidden map, in voxels
STAGES = ((4, 100), (2, 80), (1, 30))  # coarse to fine: (the scans are reduced by, steps)
CONTROL_POINTS = (9, 11, 9)  # along z, y, x
FIRST_RATE, LAST_RATE = 0.5, 0.05  # learning rate in the first and last step, in voxels
STIFFNESS = 1e-3
ALLOWED = 0.25  # share of the errors at the start that may be left
SLICES = (52, 54, 38)  # that the picture shows, along z, y, x


def load_head() -> Tensor:
    """Load the first scan as (1, 1, D, H, W) float32 in [0, 1], in voxels of 2 mm."""
    package = find_spec("nilearn")  # only its file is needed: it is not imported
    path = Path(package.origin if package and package.origin else "nilearn").parent / TEMPLATE
    if not path.is_file():
        sys.exit(f"register_volume.py: {path} is missing: pip install --no-deps nilearn")
    voxels = torch.tensor(np.asarray(nibabel.load(path).dataobj)).permute(2, 1, 0) / 255
    return F.pad(F.avg_pool3d(voxels[None, None], 2), (-1, -1, 0, 0, 8, -6))  # room below


def interpolate(control: Tensor, size: torch.Size) -> Tensor:
    """Interpolate a control grid (1, 3, d, h, w) at all voxels of a scan of `size`."""
    return warp(control, affine=IDENTITY, size=size, mode=SPLINE, padding_mode="border")


def hidden_displacement(head: Tensor, seed: int) -> Tensor:
    """Draw an affine map plus a smooth one, as a displacement (1, 3, D, H, W) in voxels."""
    generator = torch.Generator().manual_seed(seed)
    theta, control = (torch.randn(1, 3, *n, generator=generator) for n in ((4,), (5, 6, 5)))
    affine = F.affine_grid(theta, list(head.shape), align_corners=False).movedim(-1, 1)
    displacement = affine + 1.5 * interpolate(control, head.shape[2:])
    return displacement * LARGEST / displacement.norm(dim=1)[head[:, 0] > 0].max()


def dissimilarity(image: Tensor, target: Tensor) -> Tensor:
    """Return 1 minus the correlation in small windows: of edges, whatever the shading."""
    products = torch.cat([image, target, image * image, target * target, image * target], 1)
    a, b, aa, bb, ab = F.avg_pool3d(products, 6, 3).unbind(1)  # 6 voxels wide, each 3 voxels
    correlation = (ab - a * b) / ((aa - a * a) * (bb - b * b) + 1e-6).sqrt()
    return 1 - correlation[bb > 1e-4].mean()


def learn(head: Tensor, scan: Tensor) -> tuple[Tensor, dict[int, float]]:
    """Learn the displacement that takes `scan` onto `head`; time the steps of each stage."""
    control = torch.zeros(1, 3, *CONTROL_POINTS, requires_grad=True)
    optimiser = torch.optim.Adam([control])
    steps, seconds = sum(count for _, count in STAGES), {}
    with tqdm(total=steps, disable=None, unit="step") as bar:
        for reduction, count in STAGES:
            target, source = (F.avg_pool3d(image, reduction) for image in (head, scan))
            start = time.perf_counter()
            for step in range(bar.n, bar.n + count):
                rate = FIRST_RATE * (LAST_RATE / FIRST_RATE) ** (step / steps)
                optimiser.param_groups[0]["lr"] = rate
                displacement = interpolate(control / reduction, target.shape[2:])
                difference = dissimilarity(warp(source, displacement), target)
                bending = sum(control.diff(n=2, dim=dim).square().mean() for dim in (2, 3, 4))
                optimiser.zero_grad()
                (difference + STIFFNESS * bending).backward()
                optimiser.step()
                bar.update()
            seconds[reduction] = (time.perf_counter() - start) / count
    return interpolate(control.detach(), head.shape[2:]), seconds


def save_figure(path: Path, volumes: dict[str, Tensor]) -> None:
    """Write one PNG: three orthogonal slices of each volume; errors in colour."""
    figure = Figure(figsize=(15, 9.2), dpi=80, layout="constrained", facecolor="black")
    depth, height, _ = next(iter(volumes.values())).shape[2:]
    axes = figure.subplots(3, len(volumes), height_ratios=[height, depth, depth])
    for (dim, row), index in zip(enumerate(axes), SLICES, strict=True):
        for axis, (title, volume) in zip(row, volumes.items(), strict=True):
            colours, top = ("inferno", 0.6) if title.startswith("error") else ("gray", 1)
            axis.imshow(volume[0, 0].select(dim, index), colours, vmin=0, vmax=top, origin="lower")
            axis.set_axis_off()
            axis.set_title("" if dim else title, color="white", fontsize=16)
    figure.savefig(path, format="png")


def main() -> None:
    """Deform the scan, learn the way back, report, and fail if too much error is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out/register_volume.png", help="PNG")
    parser.add_argument("--seed", type=int, default=0, help="seed of the hidden map")
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    head = load_head()
    hidden = hidden_displacement(head, args.seed)
    deformed = warp(head, hidden, mode="bicubic")
    scan = deformed * torch.linspace(0.6, 1.4, head.shape[-1])  # shaded from left to right
    learned, seconds = learn(head, scan)

    recovered = warp(deformed, learned, mode="bicubic")
    left = learned + warp(hidden, learned, padding_mode="border")  # 0 if one undoes the other
    voxels = [field.norm(dim=1)[head[:, 0] > 0].mean().item() for field in (hidden, left)]
    before, after = (deformed - head).abs(), (recovered - head).abs()
    means = [error[head > 0].mean().item() for error in (before, after)]
    volumes = {"first scan": head, "second scan": scan, "recovered, unshaded": recovered}
    volumes |= {"error before": before, "error after": after}
    save_figure(args.output, volumes)
    times = ", ".join(f"{1000 * s:.0f} ms at 1/{reduction}" for reduction, s in seconds.items())
    print(f"scans          {' x '.join(map(str, head.shape[2:]))} voxels, seed {args.seed}")
    print(f"displacement   {voxels[0]:.2f} voxels at start, {voxels[1]:.2f} left, mean in the head")
    print(f"image error    {means[0]:.4f} at start, {means[1]:.4f} left, mean in the head")
    print(f"time per step  {times} of the size")
    print(f"picture        {args.output}")
    for name, (start, end) in (("displacement", voxels), ("image error", means)):
        if not end <= ALLOWED * start:
            sys.exit(f"register_volume.py: FAILED, of the {name} {100 * end / start:.0f} % is left")


if __name__ == "__main__":
    main()

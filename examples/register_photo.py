"""Register a photograph: find the deformation between two pictures by gradient descent.

The story
    A real photograph is warped by a hidden map: a random affine map plus a random smooth
    displacement. From the two pictures alone, a small model learns to warp the second one back:

        recovered(p) = warped(learned(p)),    learned(p) = affine(p) + displacement(p)

    The displacement is a sum of control grids of 4 x 4, 8 x 8 and 16 x 16 points. Training goes
    from a small picture and the affine map alone to the full picture and all control grids.

What it exercises
    Everything is sampled by ``gridsample_ext.warp``, and training needs all its gradients: the
    picture is warped by the learned map (gradients of ``displacement`` and ``affine``), and the
    map's displacement is a control grid sampled at every pixel (gradient of ``input``). The hidden
    warp, and every call in the last step of each stage, are repeated on a composed grid with
    ``F.grid_sample`` in float64; the program stops if values or gradients disagree.

What is measured
    PSNR against the original, over every pixel and channel: the warped picture at the start, the
    recovered one at the end. The hidden map steps back until the whole photograph is in view, so
    nothing leaves the frame and nothing is excluded. Around the photograph it shows the mean
    colour: black or white would lower the start. The exit status is 1 if less than 12 dB is gained.

The photograph
    Commodore Grace M. Hopper, USN, by James S. Davis, 1984: official U.S. Navy portrait, NH
    96919-KN, in the public domain. It comes with Matplotlib (sample data): nothing is downloaded.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from matplotlib import cbook
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    from PIL import Image
    from torch import Tensor, nn
    from tqdm import tqdm

    from gridsample_ext import warp
except ImportError as error:
    sys.exit(f"register_photo.py cannot start: {error}. `make demo` sets up all that it needs.")

REQUIRED_GAIN_DB = 12.0
# Coarse to fine: (the picture is reduced by, control grids in use) for an equal share of the steps.
STAGES = ((8, 0), (8, 1), (4, 2), (2, 3), (1, 3))
CONTROL_POINTS = (4, 8, 16)
FIRST_RATE, LAST_RATE = 1e-2, 1e-3  # learning rate in the first and last step, in half frames
STIFFNESS = 1e-2
IDENTITY = torch.eye(2, 3)[None]
SPLINE = {"mode": "bicubic", "padding_mode": "border", "align_corners": True}  # control grids
sample = partial(warp, units="normalized")  # displacements count in half frames


def load_photo(width: int) -> Tensor:
    """Load the photograph as (1, 3, H, W) float32 in [0, 1], `width` pixels wide."""
    path = Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    if not path.is_file():
        sys.exit(f"register_photo.py: this Matplotlib has no sample data, {path} is missing")
    with Image.open(path) as file:
        height = round(file.height * width / file.width)
        image = file.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    return torch.tensor(np.asarray(image)).permute(2, 0, 1)[None] / 255


def compose(displacement: Tensor, affine: Tensor, align: bool = False) -> Tensor:
    """Return a map as a (1, H, W, 2) grid, which F.grid_sample needs, and warp does not."""
    grid = F.affine_grid(affine, [1, 1, *displacement.shape[2:]], align)
    return grid + displacement.movedim(1, -1)


def hidden_map(seed: int, height: int, width: int) -> Callable[[Tensor], Tensor]:
    """Draw an affine map plus six plane waves, from (..., 2) points to points."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    angle, shift = math.radians(10) * uniform(1), 0.06 * uniform(2)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    aspect = torch.tensor([1.0, height / width])  # rotate in pixels, not in frame units
    matrix = rotation @ (torch.eye(2) + 0.06 * uniform(2, 2)) * aspect / aspect[:, None]
    waves, phases = 1.5 * math.pi * uniform(6, 2), math.pi * uniform(6, 2)
    directions = uniform(6, 2)

    def displacement(points: Tensor) -> Tensor:
        return (directions * ((points @ waves.T)[..., None] + phases).sin()).sum(-2)

    # Grid units are half frames: 0.05 is 2.5 % of the frame, root mean square, in each of x and y.
    frame = compose(torch.zeros(1, 2, height, width), IDENTITY)
    directions *= 0.05 / displacement(frame).square().mean().sqrt()
    # Step back until the edge of the frame sees only what lies beyond the edge of the photograph.
    reach = (frame @ matrix.T + shift + displacement(frame))[0].abs().amax(-1)
    zoom = 1.02 / torch.cat([reach[0], reach[-1], reach[:, 0], reach[:, -1]]).min()
    return lambda points: zoom * (points @ matrix.T + shift + displacement(points))


class Audit:
    """Repeats calls of `sample` with F.grid_sample in float64 and stops on a disagreement.

    Let S be the longest side of picture or map. A float32 pixel coordinate, up to S in size, is
    off by a few S * eps pixels, and values, weights and slopes follow it: a picture changes by at
    most its own range per pixel. A gradient summed over S * S samples is off by about S * eps, as
    rounding errors add up like a random walk. Hence one tolerance: 4 * S * eps of the largest
    magnitude. The bilinear slope jumps at pixel centres, where either side's would be right, so
    points within the tolerance of one are first moved off it.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.calls = 0
        names = ("output", "grad_input", "grad_displacement", "grad_affine")
        self.worst = dict.fromkeys(names, 0.0)  # in tolerances

    def sample(self, image: Tensor, displacement: Tensor, affine: Tensor, **options: Any) -> Tensor:
        """Sample, and compare output and gradients for a random grad_output."""
        align, shape = options.setdefault("align_corners", False), displacement.shape[2:]
        tolerance = 4 * max(*image.shape[2:], *shape) * torch.finfo(torch.float32).eps
        size = torch.tensor([image.shape[-1], image.shape[-2]]) - float(align)
        pixels = (compose(displacement, affine, align).double() + 1) / 2 * size - (not align) / 2
        near = (pixels - pixels.round()).abs() < tolerance
        moved = displacement + (near * (8 * tolerance) / size).movedim(-1, 1)
        grad_output = torch.randn(*image.shape[:2], *shape, generator=self.generator)

        def run(function: Callable[..., Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
            inputs = [t.detach().to(dtype).requires_grad_() for t in (image, moved, affine)]
            output = function(*inputs)
            return output.detach(), *torch.autograd.grad(output, inputs, grad_output.to(dtype))

        ours = run(partial(sample, **options), torch.float32)
        theirs = run(lambda i, *m: F.grid_sample(i, compose(*m, align), **options), torch.float64)
        for name, a, b in zip(self.worst, ours, theirs, strict=True):
            scale = b.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
            difference = ((a - b).abs().max() / scale).item()
            if not difference <= tolerance:  # written so that NaN stops the program, too
                sys.exit(
                    f"register_photo.py: warp and F.grid_sample disagree on {name}, {options}: "
                    f"by {difference:.1e} of the largest value, {tolerance:.1e} allowed."
                )
            self.worst[name] = max(self.worst[name], difference / tolerance)
        self.calls += 1
        return sample(image, displacement, affine, **options)


class LearnedMap(nn.Module):
    """An affine map plus control grids, each interpolated smoothly to every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.affine = nn.Parameter(IDENTITY.clone())
        self.controls = nn.ParameterList(torch.zeros(1, 2, k, k) for k in CONTROL_POINTS)

    def forward(self, levels: int, size: tuple[int, int], sample: Callable[..., Tensor]) -> Tensor:
        """Return the displacement (1, 2, H, W), using the `levels` coarsest control grids."""
        displacement = still = torch.zeros(1, 2, *size)
        for control in list(self.controls)[:levels]:
            displacement = displacement + sample(control, still, IDENTITY, **SPLINE)
        return displacement

    def bending(self) -> Tensor:
        """Return squared second differences of the control grids; finer grids are stiffer."""
        parts = [
            control.diff(n=2, dim=dim).square().mean() * control.shape[dim] ** 2
            for control, dim in itertools.product(self.controls, (2, 3))
        ]
        return torch.stack(parts).sum()


def psnr(image: Tensor, original: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB over every pixel and channel; the peak is 1."""
    return -10 * math.log10((image - original).square().mean().item())


def learn(original: Tensor, warped: Tensor, steps: int, audit: Audit, quiet: bool) -> LearnedMap:
    """Learn the map that takes `warped` back onto `original` from nothing but the two pictures."""
    learned = LearnedMap()
    optimiser = torch.optim.Adam(learned.parameters())
    with tqdm(total=steps, disable=quiet, unit="step", mininterval=0.5) as bar:
        for stage, (reduction, levels) in enumerate(STAGES):
            size = (original.shape[-2] // reduction, original.shape[-1] // reduction)
            target = F.interpolate(original, size, mode="bilinear", antialias=True)
            source = F.interpolate(warped, size, mode="bilinear", antialias=True)
            begin, end = (steps * s // len(STAGES) for s in (stage, stage + 1))
            for step in range(begin, end):
                rate = FIRST_RATE * (LAST_RATE / FIRST_RATE) ** (step / steps)
                optimiser.param_groups[0]["lr"] = rate
                sampler = audit.sample if step == end - 1 else sample
                output = sampler(source, learned(levels, size, sampler), learned.affine)
                difference = (output - target).abs().mean()
                optimiser.zero_grad()
                (difference + STIFFNESS * learned.bending()).backward()
                optimiser.step()
                bar.set_description(f"{size[1]} x {size[0]}, {levels} control grids", False)
                bar.set_postfix(difference=f"{difference.item():.4f}", refresh=False)
                bar.update()
    return learned


def save_figure(path: Path, pictures: dict[str, Tensor], learned: Tensor) -> None:
    """Write one PNG: the three pictures, the learned map as a mesh, the error before and after."""
    figure = Figure(figsize=(12, 10.4), dpi=110, layout="constrained")
    axes = figure.subplots(
        2, 3, subplot_kw={"frame_on": False, "xticks": [], "yticks": [], "anchor": "N"}
    ).ravel()
    for axis, (title, picture) in zip(axes, pictures.items(), strict=False):
        axis.imshow(picture[0].permute(1, 2, 0).numpy())
        axis.set_title(title)
    original, warped, recovered = pictures.values()
    axes[3].imshow(0.5 + 0.5 * warped[0].permute(1, 2, 0).numpy())
    height, width = original.shape[-2:]
    x, y = ((learned[0] + 1) / 2 * torch.tensor([width, height]) - 0.5).movedim(-1, 0).numpy()
    rows, columns = (np.linspace(0, side - 1, 15).astype(int) for side in (height, width))
    axes[3].plot(x[rows].T, y[rows].T, x[:, columns], y[:, columns], color="tab:red", linewidth=0.9)
    axes[3].set_title("learned map: a straight mesh, warped")
    for axis, when, picture in ((axes[4], "before", warped), (axes[5], "after", recovered)):
        error = 255 * (picture - original).abs().mean(1)[0].numpy()
        drawn = axis.imshow(error, cmap="inferno", norm=PowerNorm(0.5, 0, 255))
        axis.set_title(f"error {when}, PSNR {psnr(picture, original):.1f} dB")
    bar = figure.colorbar(drawn, ax=axes[4:], location="bottom", aspect=40, pad=0.02)
    bar.set_ticks([0, 2, 10, 25, 50, 100, 150, 200, 250])
    bar.set_label("absolute difference to the original, mean of R, G and B, of 255 (root scale)")
    figure.savefig(path, format="png")


def parse_arguments() -> argparse.Namespace:
    """Read and check the command line."""
    parser = argparse.ArgumentParser(
        description="Warp a photograph by a hidden map, learn the map back through "
        "gridsample_ext.warp, and write a picture of the result. "
        f"The exit status is 0 if PSNR rose by at least {REQUIRED_GAIN_DB:.0f} dB, otherwise 1.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default="out/register_photo.png", help="PNG")
    parser.add_argument("--seed", type=int, default=0, help="seed of the hidden map")
    parser.add_argument("--steps", type=int, default=300, help="training steps, all stages")
    parser.add_argument("--size", type=int, default=384, help="width in pixels, 128 ... 512")
    parser.add_argument("--no-progress", action="store_true", help="hide the progress bar")
    args = parser.parse_args()
    if not 128 <= args.size <= 512 or args.steps < len(STAGES):
        parser.error(f"--size must lie in 128 ... 512, --steps be at least {len(STAGES)}")
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.open("ab").close()
    except OSError as error:
        parser.error(f"--output cannot be written: {error}")
    return args


def main() -> None:
    """Warp the photograph, learn the map back, report, and fail if too little was gained."""
    args = parse_arguments()
    photo = load_photo(args.size)
    height, width = photo.shape[-2:]
    mean = photo.mean((2, 3), keepdim=True)  # zeros padding then shows the mean colour
    hidden, audit = hidden_map(args.seed, height, width), Audit(args.seed)
    points = compose(torch.zeros(1, 2, height, width), IDENTITY)
    displacement = (hidden(points) - points).movedim(-1, 1)
    warped = audit.sample(photo - mean, displacement, IDENTITY, mode="bicubic") + mean
    warped = (warped.clamp(0, 1) * 255).round() / 255  # a picture file has 8 bits
    learned = learn(photo - mean, warped - mean, args.steps, audit, args.no_progress)
    with torch.no_grad():
        displacement = learned(len(CONTROL_POINTS), (height, width), sample)
        grid = compose(displacement, learned.affine)
        recovered = sample(warped - mean, displacement, learned.affine, mode="bicubic")
        recovered = (recovered + mean).clamp(0, 1)
        pixels = torch.tensor([width, height]) / 2
        # Looks at the hidden map, for the report only: hidden(learned(p)) should be p.
        before, after = (((hidden(m) - points) * pixels).norm(dim=-1) for m in (points, grid))

    start, end = psnr(warped, photo), psnr(recovered, photo)
    pictures = {"original": photo, "warped by the hidden map": warped, "recovered": recovered}
    save_figure(args.output, pictures, grid)
    used = ", ".join(f"{name} {100 * share:.0f} %" for name, share in audit.worst.items())
    print(f"photograph     {width} x {height} pixels, hidden map of seed {args.seed}")
    print(f"checked        {audit.calls} calls agree with F.grid_sample in float64")
    print(f"               within {used} of the tolerance")
    print(f"PSNR at start  {start:.2f} dB, warped picture against the original, all pixels")
    print(f"PSNR at end    {end:.2f} dB, recovered picture against the original, all pixels")
    print(f"gain           {end - start:.2f} dB, at least {REQUIRED_GAIN_DB:.0f} dB required")
    print(f"displacement   {before.median():.1f} px at start, {after.median():.2f} px left, median")
    print(f"picture        {args.output}")
    if not end - start >= REQUIRED_GAIN_DB:
        sys.exit("register_photo.py: FAILED, the photograph was not recovered")


if __name__ == "__main__":
    main()

"""Look across the seam of a panorama: circular padding, pixel coordinates, soft label maps.

What it shows
    A panorama of 360 degrees is a picture on a cylinder. A file holds it cut open, so its left and
    right edges are the same place, the seam. ``padding_mode=("circular", "border")`` closes the
    cylinder: along x the picture goes round, along y its border pixels are repeated. The program
    samples the panorama with it, and without it, three times:

    1. turned by half a turn, which brings the seam from the edges to the middle;
    2. as a camera with a flat sensor sees it, from the middle of the cylinder, facing the seam;
    3. magnified at the seam, where the usual remedy, ``x % width`` with border, leaves a step.

    Then the panorama's colours are sorted into a few classes, and this map of labels is turned and
    magnified. Nearest sampling draws staircases. ``sample_labels`` takes the label of most weight
    among the neighbours of each sample: outlines are smooth, and there are still only labels.

How to run it
    ``make demo`` in the repository, or ``python examples/panorama.py`` where gridsample_ext and
    Matplotlib are installed: a few seconds. It writes ``out/panorama.png``, measures what it
    claims, and has the exit status 1 if a claim does not hold.

The photograph
    Commodore Grace M. Hopper, USN, by James S. Davis, 1984: official U.S. Navy portrait, NH
    96919-KN, in the public domain. It comes with Matplotlib (sample data): nothing is downloaded.
    Side by side, the photograph and its mirror image make a ring without an edge.
"""

import argparse
import math
import sys
from pathlib import Path

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from matplotlib import cbook
    from matplotlib.figure import Figure
    from PIL import Image
    from torch import Tensor

    from gridsample_ext import grid_sample, sample_labels
except ImportError as error:
    sys.exit(f"panorama.py cannot start: {error}. `make demo` sets up all that it needs.")

ROWS = 360  # of the photograph, from the top: the head and the shoulders
CUT = 268  # the column of the photograph where the ring is cut open: through the face
FOCUS = 49  # the row that is magnified at the seam: the emblem on the cap
ZOOM = 32  # and how much it is magnified
LABELS = 6
CLOSED, OPEN = ("circular", "border"), ("border", "border")


def load_panorama() -> Tensor:
    """Load the photograph and close it to a ring: (1, 3, H, W) float32 in [0, 1]."""
    with cbook.get_sample_data("grace_hopper.jpg") as data, Image.open(data) as file:
        pixels = torch.tensor(np.asarray(file.convert("RGB")))
    photo = pixels.permute(2, 0, 1)[None, :, :ROWS] / 255
    return torch.cat([photo, photo.flip(-1)], -1).roll(-CUT, -1)


def points(x: Tensor, y: Tensor) -> Tensor:
    """Return the grid (1, H, W, 2) of the points with these x and y, which broadcast to (H, W)."""
    return torch.stack(torch.broadcast_tensors(x, y), -1)[None]


def sample(image: Tensor, grid: Tensor, padding: tuple[str, str]) -> Tensor:
    """Interpolate `image` at points that count pixels."""
    return grid_sample(image, grid, "bilinear", padding, coordinates="pixel")


def camera(height: int, width: int, column: float) -> Tensor:
    """Return where a camera in the middle of the cylinder looks when it faces `column`.

    The ray through the point (u, v) of a flat sensor at distance 1 meets the cylinder at the angle
    atan(u), and at the height v / sqrt(1 + u * u) in radii of the cylinder.
    """
    radius = width / (2 * math.pi)
    u, v = torch.linspace(-1.3, 1.3, 700), torch.linspace(-0.9, 0.9, 484)[:, None]
    y = (height - 1) / 2 + radius * v / (1 + u.square()).sqrt()
    return points(column + radius * u.atan(), y)


def classify(panorama: Tensor) -> tuple[Tensor, Tensor]:
    """Sort smoothed colours by k-means: labels (1, 1, H, W), uint8, and the colour of each."""
    ring = F.pad(F.pad(panorama, (2, 2, 0, 0), "circular"), (0, 0, 2, 2), "replicate")
    colours = F.avg_pool2d(ring, 5, 1)[0].flatten(1).T
    order = colours.sum(1).argsort()
    means = colours[order[torch.linspace(0, len(order) - 1, LABELS).long()]]
    for _ in range(15):
        labels = torch.cdist(colours, means).argmin(1)
        members = F.one_hot(labels, LABELS).float()
        means = (members.T @ colours) / members.sum(0)[:, None].clamp_min(1)
    return labels.byte().reshape(1, 1, *panorama.shape[-2:]), means


def step_at_seam(picture: Tensor, seam: int) -> float:
    """Return the step from column `seam` to the next, as a share of the largest step elsewhere."""
    steps = picture.diff(dim=-1).abs().mean((0, 1, 2))
    return (steps[seam] / torch.cat([steps[:seam], steps[seam + 1 :]]).max()).item()


def outline(labels: Tensor) -> int:
    """Return the length of the outlines: how many neighbours have different labels."""
    return sum(int(labels.int().diff(dim=dim).count_nonzero()) for dim in (-1, -2))


def require(holds: bool, failure: str) -> None:
    """Stop the program if a claim does not hold."""
    if not holds:
        sys.exit(f"panorama.py: FAILED, {failure}")


def save_figure(path: Path, pictures: list[tuple[str, Tensor, tuple[float, ...]]]) -> None:
    """Write one PNG of pictures, each with a caption and the columns where red marks are put."""
    figure = Figure(figsize=(14, 20.4), dpi=90, layout="constrained")
    axes = figure.subplot_mosaic(
        "AAAAAA;BBBCCC;DDDEEE;FFFGGG;HHIIJJ",
        height_ratios=[5.4, 3, 5.3, 3, 4.5],
        subplot_kw={"frame_on": False, "xticks": [], "yticks": []},
    )
    for axis, (caption, picture, marks) in zip(axes.values(), pictures, strict=True):
        axis.imshow(picture[0].permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="none")
        axis.set_title(caption, fontsize=15, pad=11)
        for x in marks:  # above and below the picture
            axis.plot(x, -0.5, "r", marker=7, markersize=9, clip_on=False)
            axis.plot(x, picture.shape[-2] - 0.5, "r", marker=6, markersize=9, clip_on=False)
    figure.savefig(path, format="png")


def main() -> None:
    """Sample the panorama, check every claim, write the picture and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="out/panorama.png", help="PNG")
    path = parser.parse_args().output
    path.parent.mkdir(parents=True, exist_ok=True)
    panorama = load_panorama()
    height, width = panorama.shape[-2:]
    half = width // 2
    rolled = panorama.roll(-half, -1)  # its seam is half a turn away

    turn = points(torch.arange(width) + float(half), torch.arange(float(height))[:, None])
    turned = {padding: sample(panorama, turn, padding) for padding in (OPEN, CLOSED)}
    error = (turned[CLOSED] - rolled).abs().max().item()
    require(error <= 1e-5, f"circular padding and torch.roll differ by {error:.1e}")

    facing = camera(height, width, width - 0.5)
    views = {padding: sample(panorama, facing, padding) for padding in (OPEN, CLOSED)}
    behind = sample(rolled, facing - torch.tensor([half, 0]), OPEN)
    view_error = (views[CLOSED] - behind).abs().max().item()
    require(view_error <= 1e-3, f"the view across the seam is wrong by {view_error:.1e}")

    offsets = torch.arange(-12 * ZOOM, 12 * ZOOM) / ZOOM  # in pixels; the first column is at 0
    x, y = width + offsets, FOCUS + offsets[offsets.abs() <= 4, None]
    by_hand = sample(panorama, points(x % width, y), OPEN)
    closed = sample(panorama, points(x, y), CLOSED)
    step_by_hand, step = (step_at_seam(p, 12 * ZOOM - 1) for p in (by_hand, closed))
    require(step <= 1.01, f"the step at the seam is {step:.2f} of the largest elsewhere")

    labels, colours = classify(panorama)
    right, down = torch.arange(-320, 320) / 10, torch.arange(-240, 240)[:, None] / 10
    cos, sin = math.cos(math.radians(20)), math.sin(math.radians(20))
    grid = points(width + cos * right - sin * down, FOCUS + 20 + sin * right + cos * down)
    nearest = grid_sample(labels.float(), grid, "nearest", CLOSED, coordinates="pixel").byte()
    soft = sample_labels(labels, grid, "bilinear", CLOSED, coordinates="pixel")
    weights = sample(F.one_hot(labels[:, 0].long(), LABELS).movedim(-1, 1).float(), grid, CLOSED)
    tie = weights.topk(2, dim=1).values.diff(dim=1) >= -1e-4  # either label is right
    wrong = int(((soft != weights.argmax(1, keepdim=True)) & ~tie).sum())
    require(soft.dtype == labels.dtype, f"labels of {labels.dtype} became {soft.dtype}")
    require(wrong == 0, f"{wrong} labels of sample_labels are not those of most weight")
    shorter = 1 - outline(soft) / outline(nearest)
    require(shorter > 0, "the outlines of sample_labels are no shorter than those of nearest")
    painted, painted_soft = (colours[m[:, 0].long()].movedim(-1, 1) for m in (nearest, soft))

    edges, middle = (-0.5, width - 0.5), (half - 0.5,)
    centre, jump = (facing.shape[2] / 2 - 0.5,), (12 * ZOOM - 0.5,)
    pictures = [
        ("The panorama as stored: its left and right edges are the same place", panorama, edges),
        ("Half a turn, border: half the panorama is lost", turned[OPEN], middle),
        ("Half a turn, circular along x: all of it is there", turned[CLOSED], middle),
        ("A camera facing the seam, border", views[OPEN], centre),
        ("A camera facing the seam, circular along x", views[CLOSED], centre),
        (f"The seam {ZOOM} times as large, x % width: a step", by_hand, jump),
        (f"The seam {ZOOM} times as large, circular: no step", closed, jump),
        ("Turned by 20 degrees, magnified", sample(panorama, grid, CLOSED), ()),
        (f"Its {LABELS} labels, nearest: staircases", painted, ()),
        (f"Its {LABELS} labels, sample_labels: smooth", painted_soft, ()),
    ]
    save_figure(path, pictures)
    print(f"panorama       {width} x {height} pixels, the seam goes through the face")
    print(f"half a turn    circular padding differs from torch.roll by {error:.0e} at most")
    print(f"camera         the view across the seam is right within {view_error:.0e}")
    print(f"step at seam   {step:.2f} of the largest elsewhere; {step_by_hand:.1f} with x % width")
    print(f"sample_labels  the labels of most weight, outlines {100 * shorter:.0f} % shorter")
    print(f"picture        {path}")


if __name__ == "__main__":
    main()

"""Random shapes, types and layouts, drawn by Hypothesis, against the plain-loop reference."""

import pytest
import samples
from agreement import assert_matches_reference

# Not everywhere where make gpu-check runs, which installs nothing.
pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def calls(draw):
    case = draw(st.sampled_from(samples.CASES))
    longest = 9 if case.dims == 2 else 5
    batch = draw(st.integers(0, 3))
    batches = draw(st.sampled_from([(batch, batch), (1, batch), (batch, 1)]))
    shape = samples.Shape(
        "random",
        C=draw(st.integers(0, 9)),
        size=tuple(draw(st.integers(1, longest)) for _ in range(3)),
        out=tuple(draw(st.integers(0, high)) for high in (4, 4, 2 * longest)),
        N_input=batches[0],
        N_grid=batches[1],
    )
    dtypes = draw(st.sampled_from(samples.DTYPES)), draw(st.sampled_from(samples.DTYPES))
    layouts = (
        draw(st.sampled_from(["contiguous", "channels_last", "sliced"])),
        draw(st.sampled_from(["contiguous", "coordinates_first", "sliced"])),
    )
    scale = draw(st.sampled_from([1.0, 10.0, 1e4]))
    return case, shape, dtypes, layouts, scale


def test_matches_reference(device, pytestconfig):
    every = pytestconfig.getoption("--tier") == "all"

    # The same draws in every run, and no clock: a failure is a failure of the kernels.
    @settings(max_examples=2000 if every else 200, deadline=None, database=None, derandomize=True)
    @given(call=calls())
    def check(call):
        case, shape, dtypes, layouts, scale = call
        input, grid = samples.sample(case, shape, *dtypes, device=device)
        input = samples.INPUT_LAYOUTS[layouts[0]](input)
        grid = samples.GRID_LAYOUTS[layouts[1]](grid * scale)
        assert_matches_reference(case, input, grid)

    check()

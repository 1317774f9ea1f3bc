"""What the backward pass does not need is not kept for it."""

from torch import Tensor

# Elements. Below, the 5 us for a stand-in are worth more than the memory.
_WORTH_IT = 1 << 14


def without_data(input: Tensor) -> Tensor:
    """A stand-in for ``input`` where only its sizes, dtype, device and layout will be asked for.

    It has one element, repeated by strides of 0, which as a layout counts as contiguous (the ops'
    rule for results, ``prefers_channels_last``). An ``input`` of another layout stands for itself,
    and so does a subclass, whose sizes may not be all there is to it.
    """
    if type(input) is not Tensor or input.numel() < _WORTH_IT or not input.is_contiguous():
        return input
    # Zero, so that what is multiplied by 0 in a further derivative stays 0.
    return input.detach().new_zeros(()).expand(input.shape)

"""Pooling (41 to 46).

Padding counts as minus infinity for a maximum and as zeros, included in the count, for a mean.
"""

from __future__ import annotations

from vegtts_core.tasks.domains import signed
from vegtts_core.tasks.problem import Argument, Problem, both, sized
from vegtts_core.tasks.types import Family

_SIGNED = signed()
_MAX_NOTE = "Negative windows are frequent: padding counts as minus infinity, and a maximum that starts at 0 is wrong."
_MEAN_NOTE = "Padding counts as zeros and is included in the divisor, which is the full window."


def _pool(
    id: int,
    name: str,
    doc: str,
    layer: str,
    init: str,
    init_inputs: str,
    dims: str,
    constants: dict,
) -> Problem:
    """``layer`` is the constructor's call without its ``nn.``."""
    maximum = layer.startswith("MaxPool")
    attribute = "maxpool" if maximum else "avg_pool"
    return Problem(
        id=id,
        name=name,
        family=Family.POOLING,
        doc=doc,
        init=init,
        build=(f"self.{attribute} = nn.{layer}",),
        forward="x: torch.Tensor",
        body=f"return self.{attribute}(x)",
        arguments=(Argument("x", dims, _SIGNED),),
        constants=constants,
        init_inputs=tuple(init_inputs.split(", ")),
        note=_MAX_NOTE if maximum else _MEAN_NOTE,
    )


_ALL = "kernel_size=kernel_size, stride=stride, padding=padding"

PROBLEMS = (
    _pool(
        41,
        "Max_Pooling_1D",
        "Applies 1D max pooling.",
        f"MaxPool1d({_ALL}, dilation=dilation, return_indices=return_indices)",
        "kernel_size: int, stride: int = None, padding: int = 0, dilation: int = 1, return_indices: bool = False",
        "kernel_size, stride, padding, dilation, return_indices",
        "batch_size, features, sequence_length",
        sized(batch_size=(64, 8), features=(192, 24), sequence_length=(65536, 16384))
        | both(kernel_size=8, stride=1, padding=4, dilation=3, return_indices=False),
    ),
    _pool(
        42,
        "Max_Pooling_2D",
        "Applies 2D max pooling.",
        f"MaxPool2d({_ALL}, dilation=dilation)",
        "kernel_size: int, stride: int, padding: int, dilation: int",
        "kernel_size, stride, padding, dilation",
        "batch_size, channels, height, width",
        sized(batch_size=(32, 1), channels=(64, 16), height=(512, 256), width=(512, 256))
        | both(kernel_size=4, stride=1, padding=1, dilation=1),
    ),
    _pool(
        43,
        "Max_Pooling_3D",
        "Applies 3D max pooling.",
        f"MaxPool3d({_ALL}, dilation=dilation, return_indices=return_indices, ceil_mode=ceil_mode)",
        "kernel_size: int, stride: int = None, padding: int = 0, dilation: int = 1, return_indices: bool = False, "
        "ceil_mode: bool = False",
        "kernel_size, stride, padding, dilation",
        "batch_size, channels, dim1, dim2, dim3",
        sized(batch_size=(16, 4), channels=(32, 16), dim1=(128, 32), dim2=(128, 32), dim3=(128, 32))
        | both(kernel_size=3, stride=2, padding=1, dilation=3),
    ),
    _pool(
        44,
        "Average_Pooling_1D",
        "Applies 1D average pooling.",
        f"AvgPool1d({_ALL})",
        "kernel_size: int, stride: int = 1, padding: int = 0",
        "kernel_size, stride, padding",
        "batch_size, in_channels, input_length",
        sized(batch_size=(64, 8), in_channels=(128, 32), input_length=(65536, 8192))
        | both(kernel_size=8, stride=1, padding=4),
    ),
    _pool(
        45,
        "Average_Pooling_2D",
        "Applies 2D average pooling.",
        f"AvgPool2d({_ALL})",
        "kernel_size: int, stride: int = None, padding: int = 0",
        "kernel_size",
        "batch_size, channels, height, width",
        sized(batch_size=(16, 2), channels=(64, 16), height=(2048, 512), width=(2048, 512)) | both(kernel_size=11),
    ),
    _pool(
        46,
        "Average_Pooling_3D",
        "Applies 3D average pooling.",
        f"AvgPool3d({_ALL})",
        "kernel_size: int, stride: int = None, padding: int = 0",
        "kernel_size, stride, padding",
        "batch_size, channels, depth, height, width",
        sized(batch_size=(16, 2), channels=(32, 16), depth=(128, 32), height=(128, 32), width=(256, 64))
        | both(kernel_size=3, stride=2, padding=1),
    ),
)

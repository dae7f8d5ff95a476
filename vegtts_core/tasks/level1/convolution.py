"""Convolutions (50, 54 to 87): standard, transposed, depthwise, separable, pointwise; one to three dimensions.

The problems differ in sizes and in how their constructor is spelt, so both are declared and the rest is composed.
CPU sizes keep kernels, strides, paddings, dilations, groups and the ratio of channels; batch and extent shrink first.
"""

from __future__ import annotations

from vegtts_core.tasks.domains import signed
from vegtts_core.tasks.problem import Argument, Constant, Problem, both
from vegtts_core.tasks.types import Family

_SIGNED = signed()
_NOTE = "The module's weights count, and every channel and tap of the kernel contributes."
_Pair = tuple[Constant, Constant]

_EXTENTS = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_DEFAULTS = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}


def _parameter(name: str, rank: int) -> str:
    """``stride: int = 1``, or with a rank ``stride: tuple = (1, 1)``."""
    if name == "groups":
        return "groups: int = 1"
    default = _DEFAULTS[name]
    return f"{name}: tuple = {(default,) * rank}" if rank else f"{name}: int = {default}"


def _conv(
    id: int,
    name: str,
    rank: int,
    batch: _Pair,
    channels: tuple[_Pair, _Pair],
    kernel: Constant,
    extent: tuple[_Pair, ...],
    options: str,
    transposed: bool = False,
    tuples: str = "",
    attribute: str = "",
    window: str = "kernel_size",
    ignored: str = "",
    note: str = _NOTE,
    **given: Constant,
) -> Problem:
    """A convolution whose constructor takes in_channels, out_channels, kernel_size, ``options`` and bias.

    ``options`` lists the constructor's parameters in order; those in ``tuples`` are tuples, and kernel_size is one
    where ``kernel`` is. ``given`` are the options that ``get_init_inputs`` hands over. ``window`` is the kernel as the
    layer gets it; ``ignored`` options are accepted and not handed on. Pairs are (kernelbench, cpu).
    """
    layer = f"ConvTranspose{rank}d" if transposed else f"Conv{rank}d"
    attribute = attribute or (f"conv_transpose{rank}d" if transposed else f"conv{rank}d")
    names = options.split()
    tuple_names = tuples.split()
    kernel_type = "tuple" if isinstance(kernel, tuple) else "int"
    parameters = [
        "in_channels: int",
        "out_channels: int",
        f"kernel_size: {kernel_type}",
        *(_parameter(option, rank if option in tuple_names else 0) for option in names),
        "bias: bool = False",
    ]
    handed_on = ", ".join(f"{option}={option}" for option in [*names, "bias"] if option not in ignored.split())
    extents = _EXTENTS[rank]
    constants = {"batch_size": batch, "in_channels": channels[0], "out_channels": channels[1]}
    constants |= both(kernel_size=kernel) | dict(zip(extents, extent, strict=True)) | both(**given)
    return Problem(
        id=id,
        name=name,
        family=Family.CONVOLUTION,
        doc=f"Applies a {rank}D {'transposed ' if transposed else ''}convolution.",
        init=", ".join(parameters),
        build=(f"self.{attribute} = nn.{layer}(in_channels, out_channels, {window}, {handed_on})",),
        forward="x: torch.Tensor",
        body=f"return self.{attribute}(x)",
        arguments=(Argument("x", ", ".join(["batch_size", "in_channels", *extents]), _SIGNED),),
        constants=constants,
        init_inputs=("in_channels", "out_channels", "kernel_size", *given),
        weights=True,
        note=note,
    )


_STANDARD = "stride padding dilation groups"
_TRANSPOSED = "stride padding output_padding groups"
_DILATED = "stride padding dilation"


def _same(*channels: int) -> tuple[_Pair, _Pair]:
    """Channels in and out, equal at both sizes."""
    return (channels[0], channels[0]), (channels[1], channels[1])


_STANDARD_PROBLEMS = (
    _conv(54, "conv_standard_3D__square_input__square_kernel", 3, (16, 2), _same(3, 64), 3,
          ((64, 32), (64, 32), (64, 32)), _STANDARD),
    _conv(55, "conv_standard_2D__asymmetric_input__square_kernel", 2, (8, 1), _same(64, 128), 3,
          ((512, 64), (1024, 128)), _STANDARD),
    _conv(56, "conv_standard_2D__asymmetric_input__asymmetric_kernel", 2, (8, 1), _same(64, 128), (5, 7),
          ((512, 64), (256, 32)), _STANDARD, tuples="stride padding dilation"),
    _conv(59, "conv_standard_3D__asymmetric_input__square_kernel", 3, (16, 1), _same(3, 64), 3,
          ((256, 112), (256, 112), (10, 10)), _STANDARD, window="(kernel_size, kernel_size, 1)"),
    _conv(60, "conv_standard_3D__square_input__asymmetric_kernel", 3, (16, 1), _same(3, 64), (3, 5, 7),
          ((64, 32), (64, 32), (64, 32)), _STANDARD),
    _conv(62, "conv_standard_2D__square_input__asymmetric_kernel", 2, (8, 1), _same(32, 64), (5, 9),
          ((512, 96), (512, 96)), _STANDARD),
    _conv(63, "conv_standard_2D__square_input__square_kernel", 2, (16, 1), _same(16, 128), 3,
          ((1024, 160), (1024, 160)), _STANDARD),
    _conv(66, "conv_standard_3D__asymmetric_input__asymmetric_kernel", 3, (8, 1), _same(3, 64), (3, 5, 7),
          ((16, 8), (128, 48), (128, 48)), _STANDARD, tuples="stride padding dilation"),
    _conv(67, "conv_standard_1D", 1, (32, 4), _same(64, 128), 3, ((131072, 8192),), _STANDARD),
    _conv(76, "conv_standard_1D_dilated_strided", 1, (64, 4), _same(64, 128), 3, ((524280, 16380),),
          "stride dilation", stride=3, dilation=4),
    _conv(80, "conv_standard_2D_square_input_asymmetric_kernel___dilated____padded", 2, (8, 1), _same(32, 64), (5, 9),
          ((512, 96), (512, 96)), _DILATED, tuples="padding dilation", stride=1, padding=(2, 4), dilation=(2, 3)),
)  # fmt: skip

_TRANSPOSED_PROBLEMS = (
    _conv(57, "conv_transposed_2D__square_input__square_kernel", 2, (8, 1), _same(64, 64), 3,
          ((1024, 96), (1024, 96)), _TRANSPOSED, transposed=True),
    _conv(58, "conv_transposed_3D__asymmetric_input__asymmetric_kernel", 3, (16, 1), _same(32, 16), (3, 5, 7),
          ((16, 8), (32, 16), (64, 32)), _TRANSPOSED, transposed=True, tuples="stride padding output_padding"),
    _conv(61, "conv_transposed_3D__square_input__square_kernel", 3, (8, 1), _same(48, 48), 3,
          ((64, 16), (64, 16), (64, 16)), _TRANSPOSED, transposed=True),
    _conv(64, "conv_transposed_1D", 1, (64, 2), _same(128, 128), 3, ((65536, 4096),), _TRANSPOSED, transposed=True,
          attribute="conv1d_transpose"),
    _conv(65, "conv_transposed_2D__square_input__asymmetric_kernel", 2, (8, 1), _same(64, 64), (3, 7),
          ((512, 64), (512, 64)), _TRANSPOSED, transposed=True),
    _conv(68, "conv_transposed_3D__square_input__asymmetric_kernel", 3, (16, 1), _same(32, 64), (3, 5, 5),
          ((64, 12), (64, 12), (64, 12)), _TRANSPOSED, transposed=True, tuples="stride padding output_padding"),
    _conv(69, "conv_transposed_2D__asymmetric_input__asymmetric_kernel", 2, (64, 2), _same(64, 128), (3, 5),
          ((128, 32), (256, 64)), "stride padding output_padding dilation groups", transposed=True,
          tuples="stride padding output_padding dilation"),
    _conv(70, "conv_transposed_3D__asymmetric_input__square_kernel", 3, (8, 1), _same(48, 24), 3,
          ((96, 20), (96, 20), (96, 20)), "stride padding output_padding dilation groups", transposed=True),
    _conv(71, "conv_transposed_2D__asymmetric_input__square_kernel", 2, (8, 1), _same(32, 32), 3,
          ((512, 128), (1024, 256)), _TRANSPOSED, transposed=True),
    _conv(72, "conv_transposed_3D_asymmetric_input_asymmetric_kernel___strided_padded_grouped", 3, (8, 2),
          _same(32, 32), (3, 5, 7), ((12, 8), (24, 16), (48, 32)), _TRANSPOSED, transposed=True,
          tuples="stride padding output_padding", stride=(2, 2, 2), padding=(1, 2, 3), output_padding=(1, 1, 1),
          groups=4),
    # KernelBench hands 4 over as output_padding, which its layer does not take: the convolution has one group.
    _conv(73, "conv_transposed_3D_asymmetric_input_square_kernel__strided_padded__grouped", 3, (4, 1), _same(32, 32),
          3, ((32, 8), (64, 16), (128, 32)), _TRANSPOSED, transposed=True, ignored="output_padding",
          note=f"{_NOTE} The name says grouped; the benchmark's own arguments leave one group and no output padding.",
          stride=2, padding=1, output_padding=4),
    _conv(74, "conv_transposed_1D_dilated", 1, (32, 4), _same(32, 64), 5, ((131072, 8192),), _DILATED,
          transposed=True, attribute="conv1d_transpose", stride=1, padding=0, dilation=3),
    _conv(75, "conv_transposed_2D_asymmetric_input_asymmetric_kernel_strided__grouped____padded____dilated", 2,
          (16, 2), _same(32, 64), (3, 5), ((128, 48), (256, 96)), "stride padding dilation groups", transposed=True,
          tuples="stride padding dilation", stride=(2, 3), padding=(1, 2), dilation=(2, 1), groups=4),
    _conv(77, "conv_transposed_3D_square_input_square_kernel___padded____dilated____strided", 3, (16, 1),
          _same(32, 64), 3, ((16, 8), (32, 16), (32, 16)), _DILATED, transposed=True, stride=2, padding=1, dilation=2),
    _conv(78, "conv_transposed_2D_asymmetric_input_asymmetric_kernel___padded", 2, (8, 1), _same(32, 32), (3, 7),
          ((512, 96), (1024, 192)), "stride padding", transposed=True, tuples="stride padding", stride=(1, 1),
          padding=(1, 3)),
    _conv(79, "conv_transposed_1D_asymmetric_input_square_kernel___padded____strided____dilated", 1, (16, 2),
          _same(32, 64), 3, ((131072, 8192),), _DILATED, transposed=True, attribute="conv1d_transpose", stride=2,
          padding=1, dilation=2),
    _conv(81, "conv_transposed_2D_asymmetric_input_square_kernel___dilated____padded____strided", 2, (16, 4),
          _same(32, 64), 3, ((64, 16), (128, 32)), _DILATED, transposed=True, stride=5, padding=1, dilation=2),
)  # fmt: skip


def _layered(
    id: int,
    name: str,
    doc: str,
    init: str,
    build: tuple[str, ...],
    body: str,
    init_inputs: str,
    constants: dict,
    typed: bool = True,
    note: str = _NOTE,
) -> Problem:
    """A 2D convolution whose constructor has a form of its own."""
    return Problem(
        id=id,
        name=name,
        family=Family.CONVOLUTION,
        doc=doc,
        init=init,
        build=build,
        forward="x: torch.Tensor" if typed else "x",
        returns=typed,
        body=body,
        arguments=(Argument("x", "batch_size, in_channels, height, width", _SIGNED),),
        constants=constants,
        init_inputs=tuple(init_inputs.split(", ")),
        weights=True,
        note=note,
    )


def _image(batch: _Pair, channels: int, height: _Pair, width: _Pair) -> dict[str, _Pair]:
    return {"batch_size": batch, "in_channels": (channels, channels), "height": height, "width": width}


_DEPTHWISE_NOTE = "Channels do not mix: each has a kernel of its own, and the module's weights count."
_DEPTHWISE_TAIL = "stride: int = 1, padding: int = 0, bias: bool = False"
_DEPTHWISE_CALL = "stride=stride, padding=padding, groups=in_channels, bias=bias"

_LAYERED_PROBLEMS = (
    _layered(
        50,
        "conv_standard_2D__square_input__square_kernel",
        "Applies a strided 2D convolution: the first layer of AlexNet.",
        "num_classes=1000",
        ("self.conv1 = nn.Conv2d(in_channels=3, out_channels=96, kernel_size=11, stride=4, padding=2)",),
        "return self.conv1(x)",
        "num_classes",
        _image((256, 4), 3, (224, 224), (224, 224)) | both(num_classes=1000),
        typed=False,
        note=f"{_NOTE} So does the bias.",
    ),
    _layered(
        82,
        "conv_depthwise_2D_square_input_square_kernel",
        "Applies a depthwise 2D convolution.",
        f"in_channels: int, kernel_size: int, {_DEPTHWISE_TAIL}",
        (f"self.conv2d = nn.Conv2d(in_channels, in_channels, kernel_size, {_DEPTHWISE_CALL})",),
        "return self.conv2d(x)",
        "in_channels, kernel_size, stride, padding",
        _image((16, 1), 64, (512, 256), (512, 256)) | both(kernel_size=3, stride=1, padding=0),
        note=_DEPTHWISE_NOTE,
    ),
    _layered(
        83,
        "conv_depthwise_2D_square_input_asymmetric_kernel",
        "Applies a depthwise 2D convolution with a kernel one column wide.",
        "in_channels: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1, bias: bool = False",
        (
            "self.conv2d = nn.Conv2d(in_channels, in_channels, kernel_size=(kernel_size, 1), stride=stride, "
            "padding=padding, dilation=dilation, groups=in_channels, bias=bias)",
        ),
        "return self.conv2d(x)",
        "in_channels, kernel_size, stride, padding, dilation",
        _image((64, 4), 8, (512, 256), (512, 256)) | both(kernel_size=3, stride=1, padding=0, dilation=1),
        note=_DEPTHWISE_NOTE,
    ),
    _layered(
        84,
        "conv_depthwise_2D_asymmetric_input_square_kernel",
        "Applies a depthwise 2D convolution to wide images.",
        f"in_channels: int, out_channels: int, kernel_size: int, {_DEPTHWISE_TAIL}",
        (f"self.conv2d = nn.Conv2d(in_channels, out_channels, kernel_size, {_DEPTHWISE_CALL})",),
        "return self.conv2d(x)",
        "in_channels, out_channels, kernel_size, stride, padding",
        _image((64, 4), 128, (256, 64), (512, 128)) | both(out_channels=128, kernel_size=3, stride=1, padding=0),
        note=_DEPTHWISE_NOTE,
    ),
    _layered(
        85,
        "conv_depthwise_2D_asymmetric_input_asymmetric_kernel",
        "Applies a depthwise 2D convolution with a kernel of unequal sides to wide images.",
        "in_channels: int, out_channels: int, kernel_size_h: int, kernel_size_w: int, stride_h: int = 1, "
        "stride_w: int = 1, padding_h: int = 0, padding_w: int = 0, dilation_h: int = 1, dilation_w: int = 1, "
        "groups: int = 1, bias: bool = False",
        (
            "self.conv2d = nn.Conv2d(in_channels, out_channels, (kernel_size_h, kernel_size_w), "
            "stride=(stride_h, stride_w), padding=(padding_h, padding_w), dilation=(dilation_h, dilation_w), "
            "groups=groups, bias=bias)",
        ),
        "return self.conv2d(x)",
        "in_channels, out_channels, kernel_size_h, kernel_size_w, stride_h, stride_w, padding_h, padding_w, "
        "dilation_h, dilation_w, groups",
        _image((32, 4), 128, (128, 64), (256, 128))
        | both(out_channels=128, kernel_size_h=3, kernel_size_w=7, stride_h=1, stride_w=1, padding_h=0, padding_w=0)
        | both(dilation_h=1, dilation_w=1, groups=128),
        note=_DEPTHWISE_NOTE,
    ),
    _layered(
        86,
        "conv_depthwise_separable_2D",
        "Applies a depthwise 2D convolution and then a pointwise one.",
        "in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0, "
        "dilation: int = 1, bias: bool = False",
        (
            "self.depthwise = nn.Conv2d(in_channels, in_channels, kernel_size, stride=stride, padding=padding, "
            "dilation=dilation, groups=in_channels, bias=bias)",
            "self.pointwise = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=bias)",
        ),
        "x = self.depthwise(x)\nreturn self.pointwise(x)",
        "in_channels, out_channels, kernel_size, stride, padding, dilation",
        _image((16, 1), 64, (512, 128), (512, 128))
        | both(out_channels=128, kernel_size=3, stride=1, padding=1, dilation=1),
        note="The weights of both layers count.",
    ),
    _layered(
        87,
        "conv_pointwise_2D",
        "Applies a pointwise (1 x 1) 2D convolution.",
        "in_channels: int, out_channels: int, bias: bool = False",
        ("self.conv1d = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=1, padding=0, bias=bias)",),
        "return self.conv1d(x)",
        "in_channels, out_channels",
        _image((16, 1), 64, (1024, 128), (1024, 128)) | both(out_channels=128),
        note="Channels mix at each position and positions do not; the module's weights count.",
    ),
)

PROBLEMS = _STANDARD_PROBLEMS + _TRANSPOSED_PROBLEMS + _LAYERED_PROBLEMS

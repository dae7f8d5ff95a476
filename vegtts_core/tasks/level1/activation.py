"""Elementwise maps (19 to 22, 25 to 32, 88). Softmax is a row operation: see ``normalization``.

On the benchmark's U[0, 1) inputs ReLU, LeakyReLU, ELU and HardTanh are the identity, SELU and HardSigmoid are
straight lines and no threshold is reached; the contracts ask for the function everywhere.
"""

from __future__ import annotations

from vegtts_core.tasks.domains import finite_floats
from vegtts_core.tasks.problem import Argument, Problem, sized
from vegtts_core.tasks.types import Family

_FINITE = finite_floats()


def _map(
    id: int,
    name: str,
    doc: str,
    body: str,
    note: str,
    init: str = "",
    build: tuple[str, ...] = (),
    constants: dict | None = None,
    init_inputs: tuple[str, ...] = (),
) -> Problem:
    return Problem(
        id=id,
        name=name,
        family=Family.MAP,
        doc=doc,
        init=init,
        build=build,
        forward="x: torch.Tensor",
        body=body,
        arguments=(Argument("x", "batch_size, dim", _FINITE),),
        constants=sized(batch_size=(4096, 288), dim=(393216, 27648)) | (constants or {}),
        init_inputs=init_inputs,
        note=note,
    )


PROBLEMS = (
    _map(
        19,
        "ReLU",
        "Applies ReLU to every element.",
        "return torch.relu(x)",
        "The identity is right on U[0, 1) only: negative inputs give 0.",
    ),
    _map(
        20,
        "LeakyReLU",
        "Applies LeakyReLU to every element.",
        "return F.leaky_relu(x, negative_slope=self.negative_slope)",
        "The identity is right on U[0, 1) only: negative inputs keep the slope that the module was built with.",
        init="negative_slope: float = 0.01",
        build=("self.negative_slope = negative_slope",),
    ),
    _map(
        21,
        "Sigmoid",
        "Applies the logistic sigmoid to every element.",
        "return torch.sigmoid(x)",
        "It saturates at 0 and 1 without NaN for large magnitudes.",
    ),
    _map(
        22,
        "Tanh",
        "Applies the hyperbolic tangent to every element.",
        "return torch.tanh(x)",
        "It saturates at -1 and 1 without NaN for large magnitudes.",
    ),
    _map(
        25,
        "Swish",
        "Applies Swish (x times its sigmoid) to every element.",
        "return x * torch.sigmoid(x)",
        "Large negative inputs give 0, large positive ones themselves.",
    ),
    _map(
        26,
        "GELU",
        "Applies GELU to every element.",
        "return F.gelu(x)",
        "It is the exact (erf) form, held to fp32 accuracy; the tanh form differs by up to 5e-4.",
    ),
    _map(
        27,
        "SELU",
        "Applies SELU to every element.",
        "return torch.selu(x)",
        "A straight line is right on U[0, 1) only: negative inputs follow the exponential branch.",
    ),
    _map(
        28,
        "HardSigmoid",
        "Applies HardSigmoid to every element.",
        "return F.hardsigmoid(x)",
        "x / 6 + 1 / 2 is right on U[0, 1) only: beyond -3 and 3 the answer is 0 and 1.",
    ),
    _map(
        29,
        "Softplus",
        "Applies Softplus to every element.",
        "return F.softplus(x)",
        "log(1 + exp(x)) overflows for large inputs, where the answer is x itself.",
    ),
    _map(
        30,
        "Softsign",
        "Applies Softsign to every element.",
        "return x / (1 + torch.abs(x))",
        "x / (1 + x) is right on U[0, 1) only: negative inputs need the absolute value.",
    ),
    _map(
        31,
        "ELU",
        "Applies ELU to every element.",
        "return F.elu(x, alpha=self.alpha)",
        "The identity is right on U[0, 1) only: negative inputs follow alpha * (exp(x) - 1).",
        init="alpha: float = 1.0",
        build=("self.alpha = alpha",),
        constants={"alpha": (1.0, 1.0)},
        init_inputs=("alpha",),
    ),
    _map(
        32,
        "HardTanh",
        "Applies HardTanh to every element.",
        "return F.hardtanh(x, min_val=-1.0, max_val=1.0)",
        "The identity is right on U[0, 1) only: the answer is clamped to [-1, 1].",
    ),
    Problem(
        id=88,
        name="MinGPTNewGelu",
        family=Family.MAP,
        doc="Applies the tanh form of GELU, as minGPT and GPT-2 have it, to every element.",
        forward="x",
        returns=False,
        body="return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))",
        # x^3 must stay finite in fp32.
        arguments=(Argument("x", "batch_size, dim", finite_floats(1e12)),),
        constants=sized(batch_size=(8192, 1536), dim=(8192, 1536)),
        note="It is the tanh form, held to fp32 accuracy; the erf form differs by up to 5e-4.",
    ),
)

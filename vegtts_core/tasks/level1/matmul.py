"""Matrix products (1 to 18). Tasks 5 and 12 are maps in disguise and are declared as such.

The note of each contract says what a shortcut on the benchmark's U[0, 1) inputs would miss.
"""

from __future__ import annotations

from vegtts_core.tasks.domains import NONZERO_SCALAR, finite_floats, fixed_value, signed, symmetric, triangular
from vegtts_core.tasks.domains import UNIT_INTERVAL as UNIT
from vegtts_core.tasks.problem import Argument, Problem, both, sized, variant_of
from vegtts_core.tasks.types import Domain, Family

_SIGNED = signed()
_TYPED = "A: torch.Tensor, B: torch.Tensor"
_NOTE = "Every element of the product sums over the whole inner dimension, in fp32 accuracy."


def _matmul(
    id: int,
    name: str,
    doc: str,
    a: str,
    b: str,
    sizes: dict,
    body: str = "return torch.matmul(A, B)",
    typed: bool = True,
    note: str = _NOTE,
) -> Problem:
    """A product of two matrices with shapes ``a`` and ``b``, in constants of ``sizes``."""
    return Problem(
        id=id,
        name=name,
        family=Family.MATMUL,
        doc=doc,
        forward=_TYPED if typed else "A, B",
        returns=typed,
        body=body,
        arguments=(Argument("A", a, _SIGNED), Argument("B", b, _SIGNED)),
        constants=sizes,
        note=note,
    )


def _structured(id: int, name: str, doc: str, body: str, a: Argument, b: Argument, note: str) -> Problem:
    """A product of two square matrices with a structure that a candidate may rely on."""
    return Problem(
        id=id,
        name=name,
        family=Family.MATMUL,
        doc=doc,
        forward="A, B",
        returns=False,
        body=body,
        arguments=(a, b),
        constants=sized(N=(4096, 768)),
        note=note,
    )


def _symmetric(name: str) -> Argument:
    domain = symmetric(_SIGNED)
    return Argument(name, "N, N", domain, symmetric(UNIT), after=f"{name} = ({name} + {name}.T) / 2")


def _triangle(name: str, upper: bool) -> Argument:
    function = "triu" if upper else "tril"
    domain: Domain = triangular(_SIGNED, upper)
    return Argument(name, "N, N", domain, triangular(UNIT, upper), draw=f"torch.{function}(torch.rand({{dims}}))")


_TRIANGLE_NOTE = (
    "The zero triangles of A and B may be relied on; the {side} triangle of the answer is zero and must be written."
)

_diagonal = Problem(
    id=12,
    name="Matmul_with_diagonal_matrices",
    family=Family.MAP,
    doc="Product of a diagonal matrix, given by its diagonal, and a full matrix.",
    forward="A, B",
    returns=False,
    body="return A.unsqueeze(1) * B",
    arguments=(Argument("A", "N", _SIGNED), Argument("B", "N, M", _SIGNED)),
    constants=sized(M=(4096, 2816), N=(4096, 2816)),
    note="Row i of B is scaled by A[i]: no sum is needed, and none of B may be skipped.",
)

PROBLEMS = (
    _matmul(
        1,
        "Square_matrix_multiplication",
        "Product of two square matrices (C = A * B).",
        "N, N",
        "N, N",
        sized(N=(4096, 768)),
    ),
    _matmul(
        2,
        "Standard_matrix_multiplication",
        "Product of two matrices (C = A * B).",
        "M, K",
        "K, N",
        sized(M=(2048, 384), K=(8192, 1536), N=(4096, 768)),
    ),
    _matmul(
        3,
        "Batched_matrix_multiplication",
        "Batched product of matrices (C[i] = A[i] * B[i]); the batch comes first.",
        "batch_size, m, k",
        "batch_size, k, n",
        sized(batch_size=(128, 32), m=(512, 128), k=(1024, 256), n=(2048, 512)),
        body="return torch.bmm(A, B)",
    ),
    _matmul(
        4,
        "Matrix_vector_multiplication",
        "Product of a matrix and a column vector (C = A * B).",
        "M, K",
        "K, 1",
        sized(M=(2048, 176), K=(1048576, 90112)),
    ),
    Problem(
        id=5,
        name="Matrix_scalar_multiplication",
        family=Family.MAP,
        doc="Product of a matrix and a scalar (C = A * s).",
        forward="A: torch.Tensor, s: float",
        body="return A * s",
        arguments=(
            Argument("A", "M, N", finite_floats()),
            Argument("s", "", NONZERO_SCALAR, fixed_value(3.14), value="s"),
        ),
        constants=sized(M=(65536, 5504), N=(16384, 1376)) | both(s=3.14),
        note="The scalar is an argument: a candidate with 3.14 written into it is wrong.",
    ),
    _matmul(
        6,
        "Matmul_with_large_K_dimension",
        "Product of two matrices with a large inner dimension (C = A * B).",
        "M, K",
        "K, N",
        sized(M=(256, 64), K=(524288, 131072), N=(256, 64)),
    ),
    _matmul(
        7,
        "Matmul_with_small_K_dimension",
        "Product of two matrices with a small inner dimension (C = A * B).",
        "M, K",
        "K, N",
        sized(M=(32768, 2048), N=(32768, 2048), K=(64, 64)),
    ),
    _matmul(
        8,
        "Matmul_with_irregular_shapes",
        "Product of two matrices whose sizes are no multiples of a tile (C = A * B).",
        "M, K",
        "K, N",
        sized(M=(8205, 1151), K=(2949, 419), N=(5921, 839)),
    ),
    _matmul(
        9,
        "Tall_skinny_matrix_multiplication",
        "Product of a tall, narrow matrix and a short, wide one (C = A * B).",
        "M, N",
        "N, M",
        sized(M=(32768, 2816), N=(32, 32)),
        typed=False,
    ),
    _matmul(
        10,
        "3D_tensor_matrix_multiplication",
        "Product of a 3D tensor and a matrix over the tensor's last dimension.",
        "N, M, K",
        "K, L",
        sized(N=(16, 4), M=(1024, 384), K=(2048, 768), L=(768, 288)),
        typed=False,
    ),
    _matmul(
        11,
        "4D_tensor_matrix_multiplication",
        "Product of a 4D tensor and a matrix over the tensor's last dimension.",
        "b, i, j, l",
        "l, k",
        sized(b=(8, 2), i=(256, 48), j=(512, 96), l=(256, 128), k=(768, 384)),
        body='return torch.einsum("bijl,lk->bijk", A, B)',
        typed=False,
    ),
    _diagonal,
    _structured(
        13,
        "Matmul_for_symmetric_matrices",
        "Product of two symmetric matrices (C = A * B).",
        "return torch.matmul(A, B)",
        _symmetric("A"),
        _symmetric("B"),
        "The symmetry of A and B may be relied on; their product is in general not symmetric.",
    ),
    _structured(
        14,
        "Matmul_for_upper_triangular_matrices",
        "Product of two upper-triangular matrices (C = A * B).",
        "return torch.triu(torch.matmul(A, B))",
        _triangle("A", upper=True),
        _triangle("B", upper=True),
        _TRIANGLE_NOTE.format(side="lower"),
    ),
    _structured(
        15,
        "Matmul_for_lower_triangular_matrices",
        "Product of two lower-triangular matrices (C = A * B).",
        "return torch.tril(torch.matmul(A, B))",
        _triangle("A", upper=False),
        _triangle("B", upper=False),
        _TRIANGLE_NOTE.format(side="upper"),
    ),
    _matmul(
        16,
        "Matmul_with_transposed_A",
        "Product of a transposed matrix and a matrix (C = A.T * B).",
        "K, M",
        "K, N",
        sized(M=(2048, 384), K=(8192, 1536), N=(4096, 768)),
        body="return torch.matmul(A.T, B)",
    ),
    _matmul(
        17,
        "Matmul_with_transposed_B",
        "Product of a matrix and a transposed matrix (C = A * B.T).",
        "M, K",
        "N, K",
        sized(M=(2048, 384), K=(8192, 1536), N=(4096, 768)),
        body="return torch.matmul(A, B.T)",
    ),
    _matmul(
        18,
        "Matmul_with_transposed_both",
        "Product of two transposed matrices (C = A.T * B.T).",
        "K, M",
        "N, K",
        sized(M=(2048, 384), K=(8192, 1536), N=(4096, 768)),
        body="return torch.matmul(A.T, B.T)",
    ),
)

VARIANTS = (
    variant_of(
        _diagonal,
        "diag",
        body="return torch.diag(A) @ B",
        # A full product: at the map's CPU size this reference would take fifty times as long.
        constants=sized(M=(4096, 768), N=(4096, 768)),
    ),
)

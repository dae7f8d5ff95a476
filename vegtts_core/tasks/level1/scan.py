"""Running sums and products along rows (89 to 93)."""

from __future__ import annotations

import torch

from vegtts_core.tasks.domains import ANY_MASK, FAIR_MASK, factors_near_one, signed
from vegtts_core.tasks.problem import Argument, Problem, both, sized
from vegtts_core.tasks.types import Domain, Family

_SIGNED = signed()
_MASK = Argument(
    "mask", "batch_size, dim1", ANY_MASK, FAIR_MASK, draw="torch.randint(0, 2, ({dims})).bool()", dtype=torch.bool
)


def _scan(
    id: int, name: str, doc: str, body: str, note: str, domain: Domain = _SIGNED, mask: Argument | None = None
) -> Problem:
    return Problem(
        id=id,
        name=name,
        family=Family.SCAN,
        doc=doc,
        init="dim",
        build=("self.dim = dim",),
        forward="x, mask" if mask else "x",
        returns=False,
        body=body,
        arguments=(Argument("x", "batch_size, dim1", domain), *((mask,) if mask else ())),
        constants=sized(batch_size=(32768, 2048), dim1=(32768, 2048)) | both(dim=1),
        init_inputs=("dim",),
        note=note,
        dim=1,
    )


PROBLEMS = (
    _scan(
        89,
        "cumsum",
        "Running sum along one dimension.",
        "return torch.cumsum(x, dim=self.dim)",
        "Sums may cancel; their error is held against the running sum of magnitudes.",
    ),
    _scan(
        90,
        "cumprod",
        "Running product along one dimension.",
        "return torch.cumprod(x, dim=self.dim)",
        "On U[0, 1) all but the first hundred products of a row underflow to 0; here they stay near 1 to the end.",
        domain=factors_near_one(1),
    ),
    _scan(
        91,
        "cumsum_reverse",
        "Running sum along one dimension, from its end.",
        "return torch.cumsum(x.flip(self.dim), dim=self.dim).flip(self.dim)",
        "Sums may cancel: the total minus a forward running sum must still be right near the end of a row.",
    ),
    _scan(
        92,
        "cumsum_exclusive",
        "Running sum along one dimension that leaves out the current element, so that it starts at 0.",
        "shorter = x.narrow(dim=self.dim, start=0, length=x.size(self.dim) - 1)\n"
        "sums = torch.cumsum(shorter, dim=self.dim)\n"
        "return torch.cat((torch.zeros_like(x.select(self.dim, 0).unsqueeze(self.dim)), sums), dim=self.dim)",
        "The first element of each row is exactly 0 and the last input of a row has no influence.",
    ),
    _scan(
        93,
        "masked_cumsum",
        "Running sum along one dimension of the elements that a mask keeps.",
        "return torch.cumsum(x * mask, dim=self.dim)",
        "Masks may be empty or full for whole rows; an element that the mask drops adds 0.",
        mask=_MASK,
    ),
)

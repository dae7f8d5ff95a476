"""Where inputs come from: what the benchmark draws, and the wider sets on which a candidate must also be right.

The benchmark's inputs are nearly all U[0, 1), where ReLU is the identity, HardTanh too, and no clamp is ever reached.
Each wider domain has a sampler that goes where such a shortcut fails: negative numbers, zeros, ties, rows of very
different size, values on and beyond every threshold. Samplers are vectorised and use only the generator they get.
Nothing here knows of tasks: a domain says what a tensor may hold, a problem says which domain its inputs have.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from vegtts_core.tasks.types import Domain, Fill

_Shape = tuple[int, ...]
_Mode = Callable[[_Shape, torch.Generator], torch.Tensor]

_SPECIAL = (0.0, -0.0, 1e-40, -1e-40, 1e-30, -1e-30, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, -6.0)
_SPECIAL_LARGE = (19.9, 20.0, 20.1, -20.0, 45.0, -45.0, 88.8, -88.8, 104.0, -104.0, 1e4, -1e4)


class _FastGenerator(torch.Generator):
    fill: Fill


def fast_generator(fill: Fill) -> torch.Generator:
    """A generator for the CPU whose uniform float32 numbers are drawn by ``fill``.

    The samplers of this module give the same distributions with it, and other bits than with torch's own.
    """
    generator = _FastGenerator()
    generator.fill = fill
    return generator


def _unit(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    if not isinstance(generator, _FastGenerator):
        return torch.rand(shape, generator=generator)
    x = torch.empty(shape, dtype=torch.float32)
    generator.fill(x, int(torch.randint(1 << 62, (), generator=generator)))
    return x


def _symmetric_unit(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    """U[-1, 1)."""
    return _unit(shape, generator).mul_(2.0).sub_(1.0)


def _pick(generator: torch.Generator, n: int) -> int:
    return int(torch.randint(0, n, (), generator=generator))


def _one_of(*modes: _Mode) -> _Mode:
    """A sampler that takes one of ``modes`` per draw, so that a few seeds see all of them."""

    def sample(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
        return modes[_pick(generator, len(modes))](shape, generator)

    return sample


def _domain_of(name: str, description: str, *modes: _Mode) -> Domain:
    """A domain whose sampler takes one of ``modes`` per draw."""
    return Domain(name, description, _one_of(*modes), modes=modes)


def _row_shape(shape: _Shape) -> _Shape:
    """One value per row: the last dimension has size 1 (a vector is split into its elements)."""
    return shape if len(shape) < 2 else (*shape[:-1], 1)


def _rows_of_different_size(spread: float) -> _Mode:
    def sample(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
        exponent = _symmetric_unit(_row_shape(shape), generator)
        return _symmetric_unit(shape, generator).mul_(exponent.mul_(math.log(spread)).exp_())

    return sample


def _half_zero(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    return torch.nn.functional.softshrink(_symmetric_unit(shape, generator), 0.5)


def _negative(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    return _unit(shape, generator).neg_().sub_(0.5)


def _rows_with_offset(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    return _symmetric_unit(shape, generator).add_(_symmetric_unit(_row_shape(shape), generator).mul_(3.0))


def _with_ties(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    """Whole numbers from -8 to 8: nearly every row attains its extremes more than once."""
    return _symmetric_unit(shape, generator).mul_(8.0).round_()


def finite_floats(limit: float = 1e30) -> Domain:
    """Any finite float of magnitude up to ``limit``: for maps, whose every element stands alone."""
    special = [s for s in (*_SPECIAL, *_SPECIAL_LARGE, limit, -limit) if abs(s) <= limit]

    def sample(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
        # t / (1 - |t|) of a uniform t has median magnitude 1 and tails to 1e7: all scales in one pass.
        t = _symmetric_unit(shape, generator)
        x = t.div_((1.0 - t.abs()).clamp_(min=2.0**-24))
        flat = x.view(-1)
        count = min(max(flat.numel() // 16, 1), 4096)
        # Each position once: which of two writes to one place comes last is chance where threads share the work.
        positions = torch.randint(0, flat.numel(), (count,), generator=generator).unique()
        choices = torch.randint(0, len(special), positions.shape, generator=generator)
        flat[positions] = torch.tensor(special)[choices]
        return x.clamp_(-limit, limit)

    return Domain(
        "finite_floats", f"finite floats of either sign and magnitude up to {limit:g}, zeros included", sample
    )


def signed(spread: float = 100.0) -> Domain:
    """Numbers of either sign whose rows may differ in size by ``spread`` squared: for sums and products over many."""
    modes = (_symmetric_unit, _rows_of_different_size(spread), _half_zero, _negative, _rows_with_offset)
    description = f"finite floats of either sign and magnitude up to {spread:g}, zeros included"
    return _domain_of("signed", description, *modes)


UNIT_INTERVAL = Domain("unit_interval", "U[0, 1)", _unit)

SIGNED_WITH_TIES = _domain_of(
    "signed_with_ties",
    "finite floats of either sign and magnitude up to 100, equal values included",
    _symmetric_unit,
    _rows_of_different_size(100.0),
    _negative,
    _with_ties,
)


def _scaled_unit(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    scale = torch.rand((), generator=generator)
    return _unit(shape, generator).mul_(scale)


SCALED_UNIT_INTERVAL = Domain("scaled_unit_interval", "U[0, 1) times one factor from U[0, 1)", _scaled_unit)


def _made_from(base: Domain, name: str, description: str, shaped: Callable[[torch.Tensor], torch.Tensor]) -> Domain:
    """``base`` with every tensor changed so that its rows depend on each other; its modes are changed likewise."""

    def changed(mode: _Mode) -> _Mode:
        return lambda shape, generator: shaped(mode(shape, generator))

    modes = tuple(changed(mode) for mode in base.modes)
    return Domain(name, description, changed(base.sample), rows_tied=True, modes=modes)


def triangular(base: Domain, upper: bool) -> Domain:
    """``base`` with the entries below (``upper``) or above the diagonal set to 0."""

    def shaped(x: torch.Tensor) -> torch.Tensor:
        return x.triu_() if upper else x.tril_()

    side = "upper" if upper else "lower"
    description = f"{side}-triangular matrices of {base.description}"
    return _made_from(base, f"{side}_triangular_{base.name}", description, shaped)


def symmetric(base: Domain) -> Domain:
    """Matrices equal to their transpose: the mean of a draw from ``base`` and its transpose."""

    description = f"symmetric matrices of {base.description}"
    return _made_from(base, f"symmetric_{base.name}", description, lambda x: (x + x.T) / 2)


def logits(spread: float = 50.0, offset: float = 1000.0) -> Domain:
    """Rows that may lie far from 0: exponentials overflow unless the row's maximum is subtracted."""

    def wide(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
        return _symmetric_unit(shape, generator).mul_(spread)

    def shifted(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
        shift = _symmetric_unit(_row_shape(shape), generator).mul_(offset)
        return _symmetric_unit(shape, generator).mul_(4.0).add_(shift)

    description = f"finite floats of either sign and magnitude up to {offset + spread:g}, rows far from 0 included"
    return _domain_of("logits", description, _symmetric_unit, wide, shifted, _half_zero)


def _softmax_rows(base: _Mode) -> _Mode:
    return lambda shape, generator: base(shape, generator).softmax(dim=-1)


def _peaked(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    # 8 nats either way keep the smallest probability of 16384 above 1e-12.
    return _symmetric_unit(shape, generator).mul_(8.0)


PROBABILITY_ROWS = Domain("probability_rows", "softmax of U[0, 1)", _softmax_rows(_unit))
SCALED_PROBABILITY_ROWS = Domain(
    "scaled_probability_rows", "softmax of U[0, 1) times one factor from U[0, 1)", _softmax_rows(_scaled_unit)
)
POSITIVE_ROWS_SUMMING_TO_ONE = _domain_of(
    "positive_rows_summing_to_one",
    "positive rows that sum to one, flat or peaked",
    _softmax_rows(_peaked),
    _softmax_rows(_symmetric_unit),
    _softmax_rows(_rows_of_different_size(8.0)),
)


def _fair_mask(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=generator).bool()


def _mask_of_any_density(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    densities = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    per_row = densities[torch.randint(0, len(densities), _row_shape(shape), generator=generator)]
    return _unit(shape, generator) < per_row


FAIR_MASK = Domain("fair_mask", "fair coin flips", _fair_mask)
ANY_MASK = Domain("any_mask", "masks of any density, empty and full rows included", _mask_of_any_density)


def class_indices(classes: int) -> Domain:
    """Uniform class indices (int64) below ``classes``: what the benchmark draws."""

    def sample(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(0, classes, shape, generator=generator)

    return Domain("class_indices", f"uniform class indices below {classes}", sample)


def any_class_indices(classes: int) -> Domain:
    """Any class indices (int64) below ``classes``: the first and the last are frequent."""

    def sample(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
        wide = torch.randint(-classes // 4, classes + classes // 4, shape, generator=generator)
        return wide.clamp_(0, classes - 1)

    return Domain("any_class_indices", f"class indices below {classes}, the first and the last often", sample)


def _signs(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=generator).float().mul_(2.0).sub_(1.0)


def _unbalanced_signs(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    positive = (0.1, 0.5, 0.9)[_pick(generator, 3)]
    return torch.where(_unit(shape, generator) < positive, 1.0, -1.0)


SIGNS = Domain("signs", "fair draws of -1 and 1", _signs)
ANY_SIGNS = Domain("any_signs", "-1 and 1 in any proportion", _unbalanced_signs)


def factors_near_one(dim: int) -> Domain:
    """Factors whose running product along ``dim`` stays within about e^4 of 1; some negative, a few exactly 0."""

    def sample(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
        length = shape[dim]
        t = _symmetric_unit(shape, generator)
        # The logarithm of the product of n factors 1 + d*t has standard deviation d * sqrt(n / 3).
        x = t.mul_(math.sqrt(3.0 / length)).add_(1.0)
        x.mul_(torch.where(_unit(shape, generator) < 0.1, -1.0, 1.0))
        rows = x.movedim(dim, -1)
        zeroed = torch.rand(rows.shape[:-1], generator=generator) < 0.1
        position = length // 2 + _pick(generator, max(length // 2, 1))
        rows[..., position].masked_fill_(zeroed, 0.0)
        return x

    description = f"factors of either sign whose running products along dimension {dim} stay finite, a few of them 0"
    return Domain("factors_near_one", description, sample)


def _nonzero_scalar(shape: _Shape, generator: torch.Generator) -> torch.Tensor:
    magnitude = _symmetric_unit(shape, generator).mul_(math.log(1000.0)).exp_()
    return magnitude * _signs(shape, generator)


def fixed_value(value: float) -> Domain:
    """One number, always the same."""
    return Domain("fixed_value", f"the single value {value:g}", lambda shape, _: torch.full(shape, value))


NONZERO_SCALAR = Domain("nonzero_scalar", "numbers of either sign and magnitude from 0.001 to 1000", _nonzero_scalar)

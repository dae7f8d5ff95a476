"""Losses (94 to 96, 98 to 100): everything is reduced to one number.

One number hides much: the mean of U[0, 1) terms is nearly constant, so a candidate that returns that constant passes
the benchmark's tolerance. The contracts' wider inputs move it.
"""

from __future__ import annotations

import torch

from vegtts_core.tasks.domains import (
    ANY_SIGNS,
    POSITIVE_ROWS_SUMMING_TO_ONE,
    PROBABILITY_ROWS,
    SCALED_PROBABILITY_ROWS,
    SCALED_UNIT_INTERVAL,
    SIGNS,
    any_class_indices,
    class_indices,
    logits,
    signed,
)
from vegtts_core.tasks.problem import Argument, Problem, both, sized
from vegtts_core.tasks.types import Domain, Family

_SIGNED = signed(10.0)
_MATRIX = "batch_size, dim"
# Rows of cross entropy keep all 4096 classes at both sizes: the class indices' domain depends on their number.
_CLASSES = 4096


def _scaled(name: str, domain: Domain = _SIGNED) -> Argument:
    """The benchmark multiplies a loss's first input by one random factor."""
    return Argument(
        name,
        _MATRIX,
        domain,
        SCALED_UNIT_INTERVAL,
        draw="torch.rand({dims}) * scale",
        before="scale = torch.rand(())",
    )


def _loss(
    id: int,
    name: str,
    doc: str,
    body: str,
    note: str,
    arguments: tuple[Argument, ...],
    constants: dict,
    **more: object,
) -> Problem:
    return Problem(
        id=id,
        name=name,
        family=Family.LOSS,
        doc=doc,
        forward=", ".join(a.name for a in arguments),
        returns=False,
        body=body,
        arguments=arguments,
        constants=constants,
        note=note,
        **more,  # type: ignore[arg-type]
    )


_square = sized(batch_size=(32768, 2048), dim=(32768, 2048))

PROBLEMS = (
    _loss(
        94,
        "MSELoss",
        "Mean squared error of predictions and targets.",
        "return torch.mean((predictions - targets) ** 2)",
        "Every element of both counts.",
        (_scaled("predictions"), Argument("targets", _MATRIX, _SIGNED)),
        _square,
    ),
    _loss(
        95,
        "CrossEntropyLoss",
        "Cross entropy of class scores and class indices.",
        "return F.cross_entropy(predictions, targets)",
        "Rows far from 0 overflow unless their maximum is subtracted; every row's target counts.",
        (
            Argument("predictions", "batch_size, num_classes", logits()),
            Argument(
                "targets",
                "batch_size",
                any_class_indices(_CLASSES),
                class_indices(_CLASSES),
                draw="torch.randint(0, num_classes, ({dims},))",
                dtype=torch.int64,
            ),
        ),
        sized(batch_size=(32768, 2048)) | both(num_classes=_CLASSES),
    ),
    _loss(
        96,
        "HuberLoss",
        "Smooth L1 (Huber) loss of predictions and targets.",
        "return F.smooth_l1_loss(predictions, targets)",
        "On U[0, 1) no difference exceeds 1 and half the mean square is enough; here both branches are reached.",
        (_scaled("predictions"), Argument("targets", _MATRIX, _SIGNED)),
        _square,
    ),
    _loss(
        98,
        "KLDivLoss",
        "Kullback-Leibler divergence of two distributions per row, averaged over the batch.",
        'return F.kl_div(torch.log(predictions), targets, reduction="batchmean")',
        "That the rows sum to one may be relied on; the sum is divided by the number of rows.",
        (
            Argument(
                "predictions",
                _MATRIX,
                POSITIVE_ROWS_SUMMING_TO_ONE,
                SCALED_PROBABILITY_ROWS,
                draw="(torch.rand({dims}) * scale).softmax(dim=-1)",
                before="scale = torch.rand(())",
            ),
            Argument(
                "targets",
                _MATRIX,
                POSITIVE_ROWS_SUMMING_TO_ONE,
                PROBABILITY_ROWS,
                draw="torch.rand({dims}).softmax(dim=-1)",
            ),
        ),
        sized(batch_size=(16384, 1024), dim=(16384, 1024)),
    ),
    _loss(
        99,
        "TripletMarginLoss",
        "Triplet margin loss: an anchor should lie nearer to its positive than to its negative.",
        "return self.loss_fn(anchor, positive, negative)",
        "Rows differ in size, so that some lie beyond the margin (where the loss is 0) and some do not.",
        (
            _scaled("anchor"),
            Argument("positive", _MATRIX, _SIGNED),
            Argument("negative", _MATRIX, _SIGNED),
        ),
        sized(batch_size=(32768, 4096), dim=(8192, 1024)) | both(margin=1.0),
        init="margin=1.0",
        build=("self.loss_fn = nn.TripletMarginLoss(margin=margin)",),
        init_inputs=("margin",),
    ),
    _loss(
        100,
        "HingeLoss",
        "Hinge loss of predictions and targets of -1 or 1.",
        "return torch.mean(torch.clamp(1 - predictions * targets, min=0))",
        "Targets apply to columns (they broadcast over the last dimension); on U[0, 1) the clamp is never reached.",
        (
            Argument("predictions", _MATRIX, _SIGNED),
            Argument(
                "targets",
                "dim",
                ANY_SIGNS,
                SIGNS,
                draw="torch.randint(0, 2, ({dims},)).float() * 2 - 1",
            ),
        ),
        _square,
    ),
)

"""TF32 in the update: on a GPU, where asked for, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from vegtts_core.training.groups import UpdateParameters
from vegtts_core.training.precision import matmul_precision


@pytest.mark.parametrize(
    ("tf32", "device", "within"), [(True, "cuda", "high"), (True, "cpu", "highest"), (False, "cuda", "highest")]
)
def test_precision_holds_within_and_is_put_back(tf32, device, within):
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(ZeroDivisionError), matmul_precision(tf32, device):
        assert torch.get_float32_matmul_precision() == within
        _ = 1 / 0
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_run_without_it_is_the_run_it_was_before_there_was_a_choice():
    assert "tf32" not in UpdateParameters().model_dump()
    assert UpdateParameters(tf32=True).model_dump()["tf32"] is True

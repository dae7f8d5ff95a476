"""The least matrix work of a task: the reference's, without the products that its contract makes zero beforehand.

It counts the textbook algorithm: Strassen's, Winograd's and others that trade multiplications for additions need fewer.
A convolution's padding is counted as if it were read, as torch counts it. It knows no device.
"""

from __future__ import annotations

from vegtts_core.tasks.types import Family, Task

_SIDES = ("upper_triangular_", "lower_triangular_")


def least_flop(task: Task) -> float:
    """Operations (2 per multiply-add) that the textbook algorithm cannot skip; at most ``task.flop``.

    Two upper (or two lower) triangular matrices of side n have n (n + 1) (n + 2) / 6 products of entries that are not
    zero by contract, about a sixth of n³. A symmetric matrix saves bytes, not products. A map multiplies elementwise
    whatever its reference does (task 12's older one multiplies by a full diagonal matrix): it has no matrix work.
    """
    if task.family is Family.MAP:
        return 0.0
    side = triangular_side(task)
    return task.flop if side is None else side * (side + 1) * (side + 2) / 3.0


def triangular_side(task: Task) -> int | None:
    """The side of the matrices where a task multiplies two that are triangular the same way; else None."""
    if task.family is not Family.MATMUL or len(task.inputs) != 2:
        return None
    names = [spec.domain.name if spec.domain else "" for spec in task.inputs]
    if not any(all(name.startswith(side) for name in names) for side in _SIDES):
        return None
    shape = task.inputs[0].shape
    return shape[-1] if shape else None

"""A module's result is what lies in its memory when it is stopped, at the address that it said."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from forked import end_of
from making import raw, with_forward

from vegtts_core.evaluator import ErrorKind, ForwardEvaluator, jail
from vegtts_core.evaluator.reading import Place, read_result
from vegtts_core.tasks import Task


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.open("/proc/self/mem", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def place() -> Iterator[Place]:
    fd = os.memfd_create("output")
    os.write(fd, b"\xff" * (5 << 20))
    yield Place(fd, 4096, 3 << 20)
    os.close(fd)


def test_what_lies_there_is_read_and_nothing_beside_it(memory: int, place: Place) -> None:
    there = torch.randint(-128, 127, (place.size,), dtype=torch.int8)
    read_result(memory, there.data_ptr(), place)
    found = os.pread(place.fd, 6 << 20, 0)
    assert found[place.offset : place.offset + place.size] == there.numpy().tobytes()
    assert set(found[: place.offset] + found[place.offset + place.size :]) == {255}


@pytest.mark.parametrize("address", [0, 8, 1 << 46, (1 << 63) - 1, (1 << 64) - 1])
def test_where_nothing_lies_nothing_is_read(memory: int, place: Place, address: int) -> None:
    read_result(memory, address, place)
    assert set(os.pread(place.fd, 6 << 20, 0)) == {255}


def test_the_memory_can_be_opened_by_anybody_who_hides_it() -> None:
    def read() -> None:
        jail.hide_memory()
        word = torch.tensor(41)
        fd = jail.open_memory()
        assert int.from_bytes(os.pread(fd, 8, word.data_ptr()), "little") == 41
        with pytest.raises(PermissionError):
            os.open("/proc/self/mem", os.O_RDONLY)

    assert end_of(jail.become_nobody, read) == 0


_WRONG = (ErrorKind.WRONG_VALUES, ErrorKind.NOT_REPEATABLE, ErrorKind.INSENSITIVE)
#: Code that takes over the conversation: what it answers with, as a Python expression of bytes, and how it ends.
_ANSWERS = {
    "an address of nothing": ("b'D' + struct.pack('=Q', 0)", _WRONG),
    "no address that there can be": ("b'D' + struct.pack('=Q', 2**64 - 1)", _WRONG),
    "the place of its input": ("b'D' + struct.pack('=Q', x.data_ptr())", _WRONG),
    "no address": ("b'D'", (ErrorKind.CRASH,)),
    "more than an address": ("b'D' + struct.pack('=QQ', x.data_ptr(), 0)", (ErrorKind.CRASH,)),
}


@pytest.mark.parametrize("name", _ANSWERS)
def test_other_answers_earn_nothing(evaluator: ForwardEvaluator, tasks: dict[str, Task], name: str) -> None:
    answer, kinds = _ANSWERS[name]
    body = (
        "import struct, sys\n"
        "frame = sys._getframe()\n"
        "while 'control' not in frame.f_locals: frame = frame.f_back\n"
        "control = frame.f_locals['control']\n"
        "while True:\n"
        f"    control.send({answer})\n"
        "    while (command := control.recv(1)) != b'c':\n"
        "        control.send(command.upper())\n"
    )
    (verdict,) = evaluator.evaluate([with_forward(tasks["88"], body)])
    assert verdict.error in kinds, verdict


def test_there_is_no_output_to_write_to(evaluator: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    body = "with open('/proc/self/maps') as maps: assert 'memfd:output' not in maps.read()\nreturn A @ B"
    (verdict,) = evaluator.evaluate([with_forward(tasks["1"], body)])
    assert verdict.error is None, verdict.reason


_EXEC = """
import os, sys
import torch
from torch import nn

class ModelNew(nn.Module):
    def forward(self, A, B):
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(0.1)"])
"""


def test_another_program_in_its_place_earns_nothing(evaluator: ForwardEvaluator, tasks: dict[str, Task]) -> None:
    (verdict,) = evaluator.evaluate([raw(tasks["1"], _EXEC)])
    assert verdict.error is ErrorKind.CRASH, verdict.reason

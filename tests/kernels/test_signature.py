"""Signatures of all level-1 tasks at both sizes, held against g++, NVRTC and the modules themselves."""

import subprocess

import pytest
import torch

from vegtts_core.errors import UserError
from vegtts_core.kernels import cpp, nvrtc
from vegtts_core.kernels.signature import ArgumentRole, KernelSignature
from vegtts_core.kernels.types import Language
from vegtts_core.tasks import Size, Task, build_reference, draw_inputs, get_task, load_tasks
from vegtts_core.tasks.load import load_tasks as load

ALL = [task for size in Size for task in load_tasks("level1", size)]


def test_every_task_has_a_signature_that_compiles_as_cpp() -> None:
    library = KernelSignature.of(ALL[0]).preamble(Language.CPP).split("constexpr long long", 1)[0]
    parts = [library]
    for number, task in enumerate(ALL):
        signature = KernelSignature.of(task)
        lines = "\n".join(signature.constant_lines())
        parts.append(f"namespace task{number} {{\n{lines}\nvoid kernel({signature.parameters()});\n}}")
    command = [*cpp.find_compiler().command, "-std=c++17", "-fopenmp", "-nostdinc", "-Wall", "-Werror", "-fsyntax-only"]
    done = subprocess.run([*command, "-x", "c++", "-"], input="\n".join(parts), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]


@pytest.mark.parametrize("key", [1, 5, 33, 51, 72, 93, 95])
def test_preambles_compile_as_cuda(key: int) -> None:
    signature = KernelSignature.of(get_task(key, Size.KERNELBENCH))
    source = signature.preamble(Language.CUDA) + f"__global__ void kernel({signature.parameters()}) {{}}\n"
    assert nvrtc.compile_cubin(source).startswith(b"\x7fELF")


@pytest.mark.parametrize("task", load("level1", Size.CPU), ids=lambda task: task.key)
def test_arguments_are_those_of_the_module(task: Task) -> None:
    signature = KernelSignature.of(task)
    module, inputs = build_reference(task, 1), draw_inputs(task, 1, wide=False)
    given = [a for a in signature.arguments if a.role in (ArgumentRole.INPUT, ArgumentRole.NUMBER)]
    assert [a.source for a in given] == list(task.forward_arguments)
    for argument, value in zip(given, inputs, strict=True):
        if isinstance(value, torch.Tensor):
            assert (argument.shape, argument.dtype) == (tuple(value.shape), value.dtype)
        else:
            assert argument.ctype == "float"
    weights = [(a.source, a.shape) for a in signature.arguments if a.role is ArgumentRole.WEIGHT]
    state = {name: tuple(v.shape) for name, v in module.state_dict().items() if v.is_floating_point()}
    assert weights == list(state.items())
    assert signature.output is signature.arguments[-1] and signature.output.name == "out"


def test_sizes_numbers_and_types_are_there_by_name() -> None:
    cross_entropy = KernelSignature.of(get_task(95))
    assert cross_entropy.c_declaration(Language.CPP) == (
        'extern "C" void kernel(const float* predictions, const long long* targets, float* out)'
    )
    assert cross_entropy.output.shape == () and cross_entropy.constants["out_n"] == 1
    masked = KernelSignature.of(get_task(93))
    assert "const unsigned char* mask" in masked.parameters() and masked.constants["mask_1"] == 2048
    assert KernelSignature.of(get_task(51)).output.ctype == "long long*"
    assert "float s, " in KernelSignature.of(get_task(5)).parameters()
    norm = KernelSignature.of(get_task(33))
    assert "bn_running_var" in norm.parameters() and "num_batches_tracked" not in norm.parameters()
    assert KernelSignature.of(get_task(36)).constants["eps"] == pytest.approx(1e-5)
    transposed = KernelSignature.of(get_task(75)).constants
    assert [transposed[f"stride_{i}"] for i in (0, 1)] == [2, 3] and transposed["groups"] == 4


def test_what_the_constructor_left_open_is_what_the_module_took() -> None:
    pool = KernelSignature.of(get_task(45)).constants  # AveragePool2d(11): its stride is its window
    assert pool["stride"] == pool["kernel_size"] == 11


TUPLE = """
import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x):
        return {result}

def get_inputs():
    return [torch.rand(4, 4){dtype}]

def get_init_inputs():
    return []
"""


@pytest.mark.parametrize(
    ("result", "dtype", "words"), [("(x, x)", "", "not a tensor"), ("x + 1", ".half()", "torch.float16")]
)
def test_what_has_no_signature_is_refused_in_a_sentence(tmp_path, result: str, dtype: str, words: str) -> None:
    (tmp_path / "level1").mkdir()
    (tmp_path / "level1" / "1_odd.py").write_text(TUPLE.format(result=result, dtype=dtype))
    (task,) = load_tasks(f"kernelbench:{tmp_path}#1", Size.KERNELBENCH)
    with pytest.raises(UserError, match=words):
        KernelSignature.of(task)

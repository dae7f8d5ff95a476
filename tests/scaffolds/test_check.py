import ast

import pytest

from vegtts_core.scaffolds.check import check_body

ATTRIBUTES = frozenset({"conv2d", "dim"})


def reason(body: str) -> str | None:
    return check_body(ast.parse(body).body, ("x", "w"), ATTRIBUTES) if "return" not in body else _of_function(body)


def _of_function(body: str) -> str | None:
    indented = "\n".join("    " + line for line in body.splitlines())
    function = ast.parse(f"def f():\n{indented}").body[0]
    assert isinstance(function, ast.FunctionDef)
    return check_body(function.body, ("x", "w"), ATTRIBUTES)


@pytest.mark.parametrize(
    "body",
    [
        "return torch.matmul(x, w)",
        "return x @ w.T",
        "return F.conv2d(x, self.conv2d.weight, self.conv2d.bias, stride=self.conv2d.stride)",
        "return self.conv2d(x)",
        "return torch.nn.functional.gelu(x, approximate='tanh')",
        "return nn.functional.silu(x)",
        "return nn.ReLU()(x)",
        "return torch.linalg.norm(x, dim=self.dim)",
        "y = torch.zeros(x.shape[0], device=x.device, dtype=torch.float32)\nreturn y + x",
        "y = torch.zeros_like(x)\nfor i in range(x.size(0)):\n    y[i] = x[i] * w\nreturn y",
        "return torch.stack([x[i] for i in range(4)]).sum(0)",
        "a, b = x.chunk(2, dim=-1)\nreturn torch.cat((b, a), -1)",
        "return x if x.dim() == 2 else x.unsqueeze(0)",
        "return torch.einsum('ij,jk->ik', x, w)",
        "return x.to(torch.bfloat16).float()",
        "return x * math.sqrt(2.0 / math.pi)",
        "out = x\nout += w\nreturn out",
    ],
)
def test_honest_bodies_are_allowed(body: str) -> None:
    assert reason(body) is None


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("import os\nreturn x", "import"),
        ("return __import__('os')", "__import__"),
        ("return open('/etc/passwd')", "open"),
        ("return eval('x')", "eval"),
        ("return x.__class__", "__class__"),
        ("return x._version", "_version"),
        ("return x.add_(1)", "add_"),
        ("return torch.add(x, w, out=x)", "out"),
        ("return torch.empty(3)", "torch.empty"),
        ("return torch.empty_like(x)", "torch.empty_like"),
        ("return torch.rand(3)", "torch.rand"),
        ("return torch.as_strided(x, (1,), (1,))", "as_strided"),
        ("return x.data_ptr()", "data_ptr"),
        ("return x.data", "data"),
        ("return x.numpy()", "numpy"),
        ("return x.cuda()", "cuda"),
        ("return x.to('cuda')", "device"),
        ("return torch.zeros(3, device='cuda')", "device"),
        ("return torch.load('f')", "torch.load"),
        ("return torch.ops.aten.mm(x, w)", "torch.ops.aten.mm"),
        ("return torch.jit.script(x)", "torch.jit.script"),
        ("return torch.compile(x)", "torch.compile"),
        ("return torch.utils.cpp_extension.load_inline('a')", "cpp_extension"),
        ("torch.set_num_threads(64)\nreturn x", "effect"),
        ("y = torch.set_num_threads(64)\nreturn x", "torch.set_num_threads"),
        ("y = torch.manual_seed(0)\nreturn x", "torch.manual_seed"),
        ("return super().forward(x)", "forward"),
        ("return self.forward(x)", "self.forward"),
        ("return self", "self"),
        ("self.cache = x\nreturn x", "cache"),
        ("torch = w\nreturn x", "torch"),
        ("x.data = w\nreturn x", "data"),
        ("while True:\n    y = 1\nreturn x", "while"),
        ("return (lambda: x)()", "lambda"),
        ("return f'{x}'", "f-string"),
        ("return '{0.__class__}'.format(x)", "format"),
        ("try:\n    y = x\nexcept Exception:\n    y = w\nreturn y", "try"),
        ("global y\nreturn x", "global"),
        ("return getattr(x, 'data')", "getattr"),
        ("return print(x)", "print"),
        ("return torch", "torch"),
        ("return torch.nn.init.zeros_(x)", "zeros_"),
        ("return F.dropout(x)", "F.dropout"),
        ("return nn.Linear(3, 4)(x)", "nn.Linear"),
        ("return M", "M"),
        ("return torch.Tensor.data_ptr(x)", "data_ptr"),
        ("return self.conv2d.register_forward_hook(x)", "register_forward_hook"),
        ("return 99999999999999999999 * x", "64 bits"),
        ("return {**x}", "dictionary"),
        ("return torch.sum(**w)", "**"),
        ("return (y := x)", "assignment expression"),
        ("return [torch.save for torch in x]", "torch"),
    ],
)
def test_everything_else_is_refused_with_its_reason(body: str, word: str) -> None:
    said = reason(body)
    assert said is not None
    assert word in said
    assert said.endswith(".")

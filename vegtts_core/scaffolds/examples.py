"""Worked examples for few-shot prompts: for some training tasks, a body of ``forward`` that does the same work.

Each is honest, passes the evaluator (a test says so) and differs from the reference, so that a policy sees what
"another way to compute this" means. Only tasks that are training tasks in every published split appear here.
"""

from __future__ import annotations

#: KernelBench level-1 problem number -> body of ``forward``.
EXAMPLE_BODIES: dict[int, str] = {
    16: "return torch.mm(A.t(), B)",
    25: "return F.silu(x)",
    47: "return x.sum(self.dim, keepdim=True)",
    88: "return F.gelu(x, approximate='tanh')",
    1: "return A @ B",
    6: "return torch.mm(A, B)",
    11: "return torch.matmul(A, B)",
    20: "return torch.maximum(x, x * self.negative_slope)",
    22: "return x.tanh()",
    27: "return F.selu(x)",
}

#: The examples a prompt carries by default, in this order (the last is nearest to the question). Of four sets tried on
#: subset 1 with 16 or 32 samples a task, the one with correct answers on most tasks: a choice made on evaluation tasks,
#: to be remembered when shares of correct samples are read. Selection and scaling are compared within one prompt.
DEFAULT_EXAMPLES: tuple[int, ...] = (25, 47, 88, 1, 16)

"""The ``kernel`` scaffold: the policy writes a whole kernel for a signature derived from the task, and a launch line.

C++ for the CPU, CUDA C++ for a GPU; the launch line belongs to CUDA only. The completion is read by a strict grammar
(`completion`, `device_code`, `launch`) and put below what the scaffold itself writes: types, sizes, the declaration.
Line numbers of compilers are lines of the completion.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from vegtts_core.kernels import completion as completions
from vegtts_core.kernels.arithmetic import Malformed
from vegtts_core.kernels.device_code import meaning, problem, strip_comments, tokens, without_linkage
from vegtts_core.kernels.launch import parse_launch
from vegtts_core.kernels.prompt import kernel_prompt
from vegtts_core.kernels.signature import ENTRY, KernelSignature
from vegtts_core.kernels.types import CODE_NAME, Language, Launch
from vegtts_core.scaffolds.types import Candidate, Prompt, Refusal, RefusalKind
from vegtts_core.tasks.types import Task

#: Longer than any honest kernel.
MAX_CHARACTERS = 32_000
MAX_LINES = 1_000

_LAUNCH_COUNT = {
    0: "A C++ kernel is called once and has no launch line; the completion has {}.",
    1: "The completion has {} launch lines (launch: grid=..., block=...) where one is needed.",
}
_OTHER_LANGUAGE = {
    Language.CPP: "The kernel is written in CUDA (`__global__`) and the device is a CPU, which runs C++.",
    Language.CUDA: "The kernel is not declared `__global__`: on a CUDA device it has to be.",
}
_DEFINITION = re.compile(rf"\bvoid\s+(?:__launch_bounds__\s*\([^()]*\)\s*)?{ENTRY}\s*\(([^()]*)\)")


class KernelScaffold:
    """Prompts for, parses and assembles kernels in one language."""

    name = "kernel"

    def __init__(self, language: Language) -> None:
        """``language``: C++ or CUDA. Raises ValueError for Python."""
        if language is Language.PYTHON:
            raise ValueError("Kernels are written in C++ or CUDA.")
        self.language = language

    def prompt(self, task: Task, examples: Sequence[Task] = ()) -> Prompt:
        """Chat messages: a question and an honest kernel per example, then the task with a fence opened.

        Raises UserError for an example that has no kernel or is an evaluation task of some split.
        """
        return kernel_prompt(task, self.language, examples)

    def parse(self, task: Task, completion: str) -> Candidate | Refusal:
        """The candidate in ``completion``, or why there is none."""
        if len(completion) > MAX_CHARACTERS or completion.count("\n") >= MAX_LINES:
            return Refusal(
                RefusalKind.TOO_LONG,
                f"The completion has {len(completion)} characters; at most {MAX_CHARACTERS} in {MAX_LINES} lines "
                "are read.",
            )
        if "\0" in completion:
            return Refusal(RefusalKind.SYNTAX, "The completion contains a null byte.")
        written = completions.read(completion)
        if not written.code:
            return Refusal(RefusalKind.EMPTY, "The completion contains no code.")
        code = without_linkage(strip_comments(written.code))
        definition = _DEFINITION.search(code)
        if definition is None:
            return Refusal(RefusalKind.EMPTY, f"The completion defines no function `void {ENTRY}(...)`.")
        if ("__global__" in code) != (self.language is Language.CUDA):
            return Refusal(RefusalKind.SYNTAX, _OTHER_LANGUAGE[self.language])
        reason = problem(code, self.language, written.first_line)
        if reason is not None:
            return Refusal(RefusalKind.FORBIDDEN, f"In the code, {reason}.")
        wanted = 0 if self.language is Language.CPP else 1
        if len(written.launches) != wanted:
            return Refusal(RefusalKind.SYNTAX, _LAUNCH_COUNT[wanted].format(len(written.launches)))
        signature = KernelSignature.of(task)
        types = [" ".join(tokens(argument.ctype)) for argument in signature.arguments]
        if _parameter_types(definition.group(1)) != types:
            return Refusal(
                RefusalKind.SYNTAX, f"The parameters of `{ENTRY}` are not those asked for: {signature.parameters()}."
            )
        sizes = {name: value for name, value in signature.constants.items() if isinstance(value, int)}
        try:
            launch = parse_launch(written.launches[0], sizes) if wanted else None
        except Malformed as error:
            return Refusal(RefusalKind.SYNTAX, f"In the launch line, {error}.")
        return self._candidate(task, signature, code, written.first_line, launch)

    def _candidate(
        self, task: Task, signature: KernelSignature, code: str, first_line: int, launch: Launch | None
    ) -> Candidate:
        # No white space at the ends of lines: after a backslash, one compiler reads past it and another does not.
        lines = [line.rstrip() for line in code.rstrip().split("\n")]
        body = "\n".join(line for line in lines if line)
        source = "\n".join((f'{signature.preamble(self.language)}#line {first_line} "{CODE_NAME}"', *lines, ""))
        text = f"{task.key}\n{self.name}\n{self.language}\n{launch}\n{meaning(code)}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        if launch is not None:
            grid, block = (", ".join(map(str, triple)) for triple in (launch.grid, launch.block))
            body += f"\nlaunch: grid=({grid}), block=({block}), shared={launch.shared_bytes}"
        return Candidate(task.key, self.name, body, source, digest[:16], self.language, launch)


def _parameter_types(text: str) -> list[str]:
    """The types in a parameter list as space-separated tokens: names, restrict and outer const are the kernel's own."""
    types = []
    for parameter in text.split(","):
        words = [token for token in tokens(parameter) if token not in ("__restrict__", "__restrict")]
        words = words[:-1]  # its name
        while words and words[-1] == "const":
            words.pop()
        if words[1:2] == ["const"]:  # `float const*` is `const float*`
            words[:2] = [words[1], words[0]]
        types.append(" ".join("long long" if word == "int64_t" else word for word in words))
    return types

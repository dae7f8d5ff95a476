"""What a kernel's text may contain, checked token by token before any compiler sees it.

The text is code of one kernel: functions, types, macros, OpenMP and unrolling pragmas. Refused is what reaches beyond
that: strings and characters (so that there is no inline assembly, no language linkage and no printing), includes,
attributes, foreign declarations, compiler built-ins, launches from the device; and spellings behind which these could
hide (token pasting, digraphs, escapes). The compiler runs in a sandbox, the kernel too: this is the first wall of
several, and the one that gives clear reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vegtts_core.kernels.types import Language

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_TOKEN = re.compile(r"[A-Za-z_]\w*|\.?\d(?:[eEpP][+-]|[\w.])*|<<<|>>>|##|\[\[|<:|:>|<%|%>|%:|\?\?|[^\s\w]")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
#: The one string that is allowed, and only here: `extern "C"` before the kernel itself.
_LINKAGE = re.compile(r'\bextern\s*"C"\s*(?=(?:__global__\s+|__launch_bounds__\s*\([^()]*\)\s*)*void\b)')

_PUNCTUATION = {
    '"': "a string", "'": "a character or a digit separator", "\\": "a backslash", "`": "a backtick", "$": "a dollar",
    "@": "an at sign", "##": "token pasting (##)", "<:": "a digraph", ":>": "a digraph", "<%": "a digraph",
    "%>": "a digraph", "%:": "a digraph", "??": "a trigraph", "[[": "an attribute ([[)",
}  # fmt: skip
_WORDS = frozenset({
    "asm", "__asm", "__asm__", "__attribute__", "__attribute", "__declspec", "_Pragma", "__pragma", "import", "module",
    "export", "__has_include", "__has_include_next", "__has_embed", "throw", "try", "catch", "typeid", "dynamic_cast",
    "thread_local", "__thread", "printf", "assert", "__trap", "__brkpt", "__managed__",
})  # fmt: skip
_BUILTINS = frozenset({
    "__builtin_expect", "__builtin_assume", "__builtin_assume_aligned", "__builtin_unreachable", "__builtin_prefetch",
    "__builtin_inff", "__builtin_inf", "__builtin_clz", "__builtin_clzll", "__builtin_ctz", "__builtin_ctzll",
    "__builtin_popcount", "__builtin_popcountll",
})  # fmt: skip
_DIRECTIVES = frozenset({"define", "undef", "if", "ifdef", "ifndef", "else", "elif", "endif", "pragma"})
_PRAGMAS = re.compile(r"(unroll|nounroll|omp|GCC\s+(unroll|ivdep)|nv_diag_suppress)\b")
_OMP_REFUSED = frozenset({"target", "threadprivate", "declare", "requires", "allocate", "interop", "task", "taskloop"})


def strip_comments(code: str) -> str:
    """The code with a space for each comment; line breaks stay where they were."""
    return _COMMENT.sub(lambda match: " " + "\n" * match.group(0).count("\n"), code)


def without_linkage(code: str) -> str:
    """The code without `extern "C"` before a function that returns nothing: the scaffold declares the kernel so."""
    return _LINKAGE.sub("", code)


def logical_lines(code: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of every line, with a line that ends in a backslash joined to the next, as compilers do."""
    lines = code.split("\n")
    place = 0
    while place < len(lines):
        first, text = place, lines[place]
        while text.rstrip().endswith("\\") and place + 1 < len(lines):
            place += 1
            text = text.rstrip()[:-1] + lines[place]
        yield first + 1, text
        place += 1


def tokens(text: str) -> list[str]:
    """The tokens of a text without comments."""
    return _TOKEN.findall(text)


def problem(code: str, language: Language, first_line: int = 1) -> str | None:
    """Why this code (without comments: `strip_comments`) is refused, as a clause with its line; None if it is not.

    ``first_line`` is the number of the code's first line.
    """
    previous = ""
    for number, text in logical_lines(code):
        reason = _line_problem(text)
        for token in tokens(text):
            reason = reason or _token_problem(token, previous, language)
            previous = token
        if reason:
            return f"line {first_line - 1 + number}: {reason}"
    return None


def _line_problem(text: str) -> str | None:
    if not text.isascii():
        return f"{next(character for character in text if not character.isascii())!r} is not an ASCII character"
    directive = re.match(r"\s*#\s*(\w*)\s*(.*)", text)
    if directive:
        return _directive_problem(directive.group(1), directive.group(2))
    return "'#' stands inside a line" if "#" in text else None


def _directive_problem(name: str, rest: str) -> str | None:
    if name not in _DIRECTIVES:
        return f"#{name} is not allowed" + (": there are no headers" if name.startswith("include") else "")
    if "#" in rest:
        return "'#' in a macro is not allowed"
    if name == "pragma":
        if not _PRAGMAS.match(rest):
            return f"#pragma {rest.split()[0] if rest.split() else ''} is not allowed"
        refused = _OMP_REFUSED.intersection(re.findall(r"\w+", rest)) if rest.startswith("omp") else ()
        if refused and not re.match(r"omp\s+declare\s+(reduction|simd)\b", rest):
            return f"#pragma omp {min(refused)} is not allowed"
    return None


def _token_problem(text: str, previous: str, language: Language) -> str | None:
    if text in _PUNCTUATION:
        return f"{_PUNCTUATION[text]} is not allowed"
    if text == "[" and previous == "[":
        return "an attribute ([[) is not allowed"
    if text in ("<<<", ">>>") and language is Language.CUDA:
        return "a launch from the device is not allowed" if text == "<<<" else None
    if previous == "extern" and text != "__shared__":
        return "extern is not allowed" + (", except before __shared__" if language is Language.CUDA else "")
    if not _IDENTIFIER.fullmatch(text):
        return None
    if text == "extern" and language is not Language.CUDA:
        return "extern is not allowed"
    if text in _WORDS:
        return f"{text!r} is not allowed"
    if text.startswith("__builtin") and text not in _BUILTINS:
        return f"{text!r} is not allowed: use the functions that the prompt names"
    if language is Language.CUDA and text.startswith("cuda"):
        return f"{text!r} is not allowed: a kernel calls no library"
    return None

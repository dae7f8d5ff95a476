"""What a kernel's text may contain, checked token by token before any compiler sees it.

The text is code of one kernel: functions, types, macros, OpenMP and unrolling pragmas. Refused is what reaches beyond
that: strings and characters (so that there is no inline assembly, no language linkage and no printing), includes,
attributes, foreign declarations, compiler built-ins, launches and memory management on the device; spellings behind
which these could hide (token pasting, digraphs, escapes, comments that only a compiler sees); and what would make equal
code differ (the line or the time of its compilation). The compiler runs in a sandbox, the kernel too: this is the first
wall of several, and the one that gives clear reasons.

Python's tokens are not C++'s: what C++ joins otherwise (``<<<:`` is ``<<`` and a bracket there) or what only a
preprocessor makes (a macro between two brackets) is refused by its spelling or by the names that it needs, wherever
these stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vegtts_core.kernels.types import Language

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_TOKEN = re.compile(r"[A-Za-z_]\w*|\.?\d(?:[eEpP][+-]|[\w.])*|[^\s\w]")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_WORD_OR_NUMBER = re.compile(r"\.?\w")
#: Part of no longer token ("" is the beginning of the code, or of what follows a directive).
_ALONE = frozenset({"", "(", ")", "[", "]", "{", "}", ",", ";"})
#: The one string that is allowed, and only here: `extern "C"` before the kernel itself.
_LINKAGE = re.compile(r'\bextern\s*"C"\s*(?=(?:__global__\s+|__launch_bounds__\s*\([^()]*\)\s*)*void\b)')

_DIRECTIVE = re.compile(r"\s*#\s*(\w*)\s*(.*)")

_PUNCTUATION = {
    '"': "a string", "'": "a character or a digit separator", "\\": "a backslash", "`": "a backtick", "$": "a dollar",
    "@": "an at sign",
}  # fmt: skip
#: Searched for in the text and not among tokens: a longer token of ours must not swallow the half of one.
_SPELLINGS = {
    "<:": "a digraph (<:)", ":>": "a digraph (:>)", "<%": "a digraph (<%)", "%>": "a digraph (%>)",
    "%:": "a digraph (%:)", "??": "a trigraph (??)", "<<<": "a launch from the device (<<<)",
    "//": "a comment sign that a line break hides (//)",
    "/*": "a comment that does not end, or whose sign a line break hides (/*)",
}  # fmt: skip
_WORDS = frozenset({
    "asm", "__asm", "__asm__", "__attribute__", "__attribute", "__declspec", "_Pragma", "__pragma", "import", "module",
    "export", "__has_include", "__has_include_next", "__has_embed", "throw", "try", "catch", "typeid", "dynamic_cast",
    "thread_local", "__thread", "printf", "assert", "__assertfail", "__trap", "__brkpt", "__managed__", "__annotate__",
    "__location__",
})  # fmt: skip
#: What an attribute of a compiler's own begins with. The brackets before it can come out of macros, this cannot.
_ATTRIBUTES = frozenset({"gnu", "__gnu__", "clang", "_Clang", "omp"})
_PLACE_AND_TIME = frozenset({
    "__LINE__", "__COUNTER__", "__FILE__", "__BASE_FILE__", "__FILE_NAME__", "__INCLUDE_LEVEL__", "__DATE__",
    "__TIME__", "__TIMESTAMP__",
})  # fmt: skip
#: The heap of a CUDA device outlives the module that allocated from it.
_DEVICE_HEAP = frozenset({"malloc", "calloc", "realloc", "free", "new", "delete"})
#: The device's runtime, and the compiler's own names for it and for cache policies.
_DEVICE_LIBRARIES = ("cuda", "__cuda", "__nv_")
_BUILTINS = frozenset({
    "__builtin_expect", "__builtin_assume", "__builtin_assume_aligned", "__builtin_unreachable", "__builtin_prefetch",
    "__builtin_inff", "__builtin_inf", "__builtin_clz", "__builtin_clzll", "__builtin_ctz", "__builtin_ctzll",
    "__builtin_popcount", "__builtin_popcountll",
})  # fmt: skip
_DIRECTIVES = frozenset({"define", "undef", "if", "ifdef", "ifndef", "else", "elif", "endif", "pragma"})
_PRAGMAS = re.compile(r"(unroll|nounroll|omp|GCC\s+(unroll|ivdep)|nv_diag_suppress)\b")
_OMP_REFUSED = frozenset({"target", "threadprivate", "declare", "requires", "allocate", "interop", "task", "taskloop"})
_DEFINITION = re.compile(r"\s*#\s*define\s+(\w+)(.*)")
_NUMBER = re.compile(r"\s+(\d[\w.]*|\(\s*\d[\w.]*\s*\))\s*")


def strip_comments(code: str) -> str:
    """The code with a space for each comment; line breaks stay where they were."""
    return _COMMENT.sub(lambda match: " " + "\n" * match.group(0).count("\n"), code)


def without_linkage(code: str) -> str:
    """The code without `extern "C"` before a function that returns nothing: the scaffold declares the kernel so."""
    return _LINKAGE.sub(lambda match: "\n" * match.group(0).count("\n"), code)


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


def meaning(code: str) -> str:
    """The code (without comments) as compilers read it: two codes with one meaning have the same tokens in C++.

    White space goes where no compiler could read the tokens beside it otherwise, and is one space or line break where
    one could: `i++ + j` is not `i + ++j`, `a > = b` is not `a >= b`, `#define F (x)` is not `#define F(x)`.
    """
    parts = []
    previous = ""
    for _, line in logical_lines(code):
        if _DIRECTIVE.match(line):
            parts += ["\n", " ".join(line.split()), "\n"]
            previous = ""
            continue
        end = -1  # a line break is white space
        for match in _TOKEN.finditer(line):
            if match.start() != end and _could_join(previous, match.group(0)):
                parts.append(" ")
            parts.append(match.group(0))
            previous, end = match.group(0), match.end()
    return "".join(parts)


def _could_join(left: str, right: str) -> bool:
    """Whether two tokens might be others if nothing stood between them."""
    if left in _ALONE or right in _ALONE:
        return False
    is_word = (_WORD_OR_NUMBER.match(left) is not None, _WORD_OR_NUMBER.match(right) is not None)
    if is_word == (True, False):
        return right in ".+-" and _IDENTIFIER.match(left) is None  # `1e +5`
    if is_word == (False, True):
        return left == "." and _IDENTIFIER.match(right) is None
    return True


def problem(code: str, language: Language, first_line: int = 1) -> str | None:
    """Why this code (without comments: `strip_comments`) is refused, as a clause with its line; None if it is not.

    ``first_line`` is the number of the code's first line.
    """
    macros = _macros(code)
    previous = ""
    for number, text in logical_lines(code):
        directive = _DIRECTIVE.match(text)
        reason = _line_problem(text, directive, macros)
        is_pragma = directive is not None and directive.group(1) == "pragma"
        before = "" if directive else previous
        for token in tokens(text):
            reason = reason or _token_problem(token, before, language, is_pragma)
            before = token
        if reason:
            return f"line {first_line - 1 + number}: {reason}"
        if not directive:  # a compiler sees the code around a directive in one piece
            previous = before
    return None


def _macros(code: str) -> frozenset[str]:
    """The names that the code defines as something other than a number."""
    found = (_DEFINITION.match(text) for _, text in logical_lines(code))
    return frozenset(match.group(1) for match in found if match and not _NUMBER.fullmatch(match.group(2)))


def _line_problem(text: str, directive: re.Match[str] | None, macros: frozenset[str]) -> str | None:
    strange = re.search(r"[^\t -~]", text)
    if strange:
        return f"{strange.group(0)!r} is not a printable ASCII character"
    for spelling, name in _SPELLINGS.items():
        if spelling in text:
            return f"{name} is not allowed"
    if directive:
        return _directive_problem(directive.group(1), directive.group(2), macros)
    return "'#' stands inside a line" if "#" in text else None


def _directive_problem(name: str, rest: str, macros: frozenset[str]) -> str | None:
    if name not in _DIRECTIVES:
        return f"#{name} is not allowed" + (": there are no headers" if name.startswith("include") else "")
    if "#" in rest:
        return "'#' in a macro is not allowed"
    words = re.findall(r"\w+", rest)
    if "extern" in words:
        return "extern in a macro is not allowed"
    if name == "pragma":
        if not _PRAGMAS.match(rest):
            return f"#pragma {rest.split()[0] if rest.split() else ''} is not allowed"
        if words[0] == "omp":
            return _omp_problem(rest, words, macros)
    return None


def _omp_problem(rest: str, words: list[str], macros: frozenset[str]) -> str | None:
    hidden = macros.intersection(words)
    if hidden:
        return f"{min(hidden)!r} is a macro and not a number: in a line of OpenMP it is not allowed"
    refused = _OMP_REFUSED.intersection(words)
    if refused and not re.match(r"omp\s+declare\s+(reduction|simd)\b", rest):
        return f"#pragma omp {min(refused)} is not allowed"
    return None


def _token_problem(text: str, previous: str, language: Language, is_pragma: bool) -> str | None:
    if text in _PUNCTUATION:
        return f"{_PUNCTUATION[text]} is not allowed"
    if text == "[" and previous == "[":
        return "an attribute ([[) is not allowed"
    if previous == "extern" and text != "__shared__":
        return "extern is not allowed" + (", except before __shared__" if language is Language.CUDA else "")
    if not _IDENTIFIER.fullmatch(text):
        return None
    if text == "extern" and language is not Language.CUDA:
        return "extern is not allowed"
    if text in _WORDS:
        return f"{text!r} is not allowed"
    if text in _ATTRIBUTES and not is_pragma:
        return f"{text!r} is not allowed: it names a compiler's attributes"
    if text in _PLACE_AND_TIME:
        return f"{text!r} is not allowed: equal code is equal wherever and whenever it is compiled"
    if text.startswith("__builtin") and text not in _BUILTINS:
        return f"{text!r} is not allowed: use the functions that the prompt names"
    if language is Language.CUDA and text in _DEVICE_HEAP:
        return (
            f"{text!r} is not allowed: a kernel gets every buffer from the evaluator and allocates none on the device"
        )
    if language is Language.CUDA and text.startswith(_DEVICE_LIBRARIES):
        return f"{text!r} is not allowed: a kernel calls no library"
    return None

"""What a compiled kernel asks of the machine, read from its ELF file: names that it imports, code that runs on loading.

A kernel is loaded only if all that it imports is arithmetic, memory and OpenMP's loops, and if loading it runs nothing
of its own. So it cannot name a system call, a thread or a file; the filter of system calls stands behind this.
"""

from __future__ import annotations

import re
import struct

from vegtts_core.kernels.signature import ENTRY

#: Functions of mathematics in double and (with an f) in float, their vector forms, memory, and OpenMP without tasks:
#: everything that it starts ends before it returns.
_ALLOWED = re.compile(
    r"(sqrt|fabs|floor|ceil|round|trunc|rint|nearbyint|lround|lrint|lgamma|tgamma|exp|exp2|expm1|log|log2|log10|log1p"
    r"|sin|cos|sincos|tan|asin|acos|atan|sinh|cosh|tanh|erf|erfc|cbrt|pow|atan2|hypot|fmax|fmin|fmod|copysign|fma)f?"
    r"|_ZGV[bcden]N\d+v+_\w+|memcpy|memmove|memset|memcmp|malloc|calloc|aligned_alloc|free"
    r"|omp_get_(thread_num|num_threads|max_threads)"
    r"|GOMP_(parallel|barrier|critical|atomic|single|sections|ordered|loop)\w*"
)

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<qQ")
_RELOCATION = struct.Struct("<QQq")
_SHT_RELA, _SHT_DYNAMIC, _SHT_DYNSYM = 4, 6, 11
#: DT_INIT, DT_FINI, DT_INIT_ARRAY, DT_FINI_ARRAY, DT_PREINIT_ARRAY
_RUN_ON_LOADING = {12, 13, 25, 26, 32}
_STT_GNU_IFUNC = 10
#: R_X86_64_IRELATIVE, R_AARCH64_IRELATIVE
_IRELATIVE = {37, 1032}


class Unreadable(Exception):
    """These bytes are not a shared library for a 64-bit little-endian machine."""


def imports(library: bytes) -> set[str]:
    """The names that a shared library takes from others. Raises `Unreadable`."""
    return {name for name, defined, _ in _symbols(library) if name and not defined}


def runs_on_loading(library: bytes) -> bool:
    """Whether loading (or unloading) the library runs code of its own. Raises `Unreadable`."""
    for kind, data, _ in _sections(library):
        if kind == _SHT_DYNAMIC and any(tag in _RUN_ON_LOADING for tag, _ in _entries(_DYNAMIC, data)):
            return True
        if kind == _SHT_RELA and any(info & 0xFFFFFFFF in _IRELATIVE for _, info, _ in _entries(_RELOCATION, data)):
            return True
    return any(kind == _STT_GNU_IFUNC and defined for _, defined, kind in _symbols(library))


def problem(library: bytes) -> str | None:
    """Why a kernel must not be loaded, as a sentence; None if it may."""
    try:
        foreign = sorted(name for name in imports(library) if not _ALLOWED.fullmatch(name))
        if foreign:
            return f"It calls {', '.join(foreign[:3])}: kernels may call mathematics, memory and OpenMP's loops only."
        if not any(name == ENTRY and defined for name, defined, _ in _symbols(library)):
            return f"It defines no function `{ENTRY}` of this task's signature."
        if runs_on_loading(library):
            return "It has code that would run before the kernel is called (a static variable's initialisation)."
    except Unreadable:
        return "What the compiler made of it is not a shared library."
    return None


def _sections(library: bytes) -> list[tuple[int, bytes, int]]:
    """(type, contents, link) of every section."""
    try:
        header = _HEADER.unpack_from(library)
        if header[0][:6] != b"\x7fELF\x02\x01":
            raise Unreadable
        start, size, count = header[6], header[11], header[12]
        found = []
        for place in range(count):
            section = _SECTION.unpack_from(library, start + place * size)
            offset, length = section[4], section[5]
            found.append((section[1], library[offset : offset + length], section[6]))
        return found
    except struct.error:
        raise Unreadable from None


def _symbols(library: bytes) -> list[tuple[str, bool, int]]:
    """(name, whether it is defined here, type) of every dynamic symbol."""
    sections = _sections(library)
    found = []
    for kind, data, link in sections:
        if kind != _SHT_DYNSYM or link >= len(sections):
            continue
        names = sections[link][1]
        for name, info, _, section, _, _ in _entries(_SYMBOL, data):
            text = names[name : names.find(b"\0", name)].decode(errors="replace")
            found.append((text, section != 0, info & 15))
    return found


def _entries(form: struct.Struct, data: bytes) -> list[tuple]:
    return list(form.iter_unpack(data[: len(data) // form.size * form.size]))

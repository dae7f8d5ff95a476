"""The kernel scaffold: completions in, candidates or refusals out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.errors import UserError
from vegtts_core.kernels import nvrtc
from vegtts_core.kernels.device_code import meaning
from vegtts_core.kernels.examples import example_ids, example_text
from vegtts_core.kernels.kernel_scaffold import KernelScaffold
from vegtts_core.kernels.types import CompileError, Language, Launch
from vegtts_core.scaffolds.types import Candidate, Refusal, RefusalKind, Role
from vegtts_core.tasks import Size, get_task

SWISH = get_task(25)
CPP, CUDA = KernelScaffold(Language.CPP), KernelScaffold(Language.CUDA)
BODY = "{ for (long long i = 0; i < out_n; i++) out[i] = x[i] / (1.0f + expf(-x[i])); }"
HEAD = "void kernel(const float* x, float* out)"
LAUNCH = "launch: grid=(cdiv(out_n, 256)), block=(256)"


def cpp(code: str) -> Candidate | Refusal:
    return CPP.parse(SWISH, code)


def candidate(found: Candidate | Refusal) -> Candidate:
    assert isinstance(found, Candidate), found
    return found


def refusal(found: Candidate | Refusal) -> Refusal:
    assert isinstance(found, Refusal), found
    return found


@pytest.mark.parametrize("language", [Language.CPP, Language.CUDA])
def test_every_example_is_a_candidate_at_both_sizes(language: Language) -> None:
    assert len(example_ids(language)) >= 12
    for id in example_ids(language):
        for size in Size:
            text = example_text(id, language)
            assert text is not None
            found = candidate(KernelScaffold(language).parse(get_task(id, size), text))
            assert found.language is language and (found.launch is None) == (language is Language.CPP)


@pytest.mark.parametrize("id", example_ids(Language.CUDA))
def test_every_cuda_example_compiles(id: int) -> None:
    found = candidate(CUDA.parse(get_task(id, Size.KERNELBENCH), example_text(id, Language.CUDA) or ""))
    assert nvrtc.compile_cubin(found.source).startswith(b"\x7fELF")


@pytest.mark.parametrize(
    "completion",
    [
        f"{HEAD} {BODY}",
        f"\n{HEAD} {BODY}\n```\nThis is fast.",
        f"Here it is:\n```cpp\n{HEAD} {BODY}\n```\nIt is fast.",
        f'```\nextern "C" {HEAD}\n// all of it\n{BODY}\n```',
        f"{HEAD} /* a comment */ {BODY}\r\n",
    ],
)
def test_one_kernel_in_many_wrappings_is_one_candidate(completion: str) -> None:
    assert candidate(cpp(completion)).fingerprint == candidate(cpp(f"{HEAD}{BODY}")).fingerprint


def test_fingerprints_tell_code_and_launches_apart() -> None:
    code = f"__global__ {HEAD} {BODY}"
    first = candidate(CUDA.parse(SWISH, f"{code}\n{LAUNCH}"))
    assert first.launch == Launch((31104, 1, 1), (256, 1, 1), 0) and first.body.endswith("shared=0")
    others = [f"{code}\nlaunch: grid=1, block=256", f"{code.replace('1.0f', '2.0f')}\n{LAUNCH}"]
    assert len({first.fingerprint, *(candidate(CUDA.parse(SWISH, text)).fingerprint for text in others)}) == 3
    macro = "#define A 1\n"
    assert candidate(cpp(f"{macro}{HEAD} {BODY}")).fingerprint != candidate(cpp(f"{HEAD} {BODY}")).fingerprint
    assert first.fingerprint == candidate(CUDA.parse(SWISH, f"// {LAUNCH}\n{code}")).fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("int f(int i, int j) { return i++ + j; }", "int f(int i, int j) { return i + ++j; }"),
        ("bool f(int a, int b) { return a >= b; }", "bool f(int a, int b) { return a > = b; }"),
        ("bool f(int a, int* b) { return a & &b; }", "bool f(int a, int* b) { return a && b; }"),
        ("#define F (x)\n", "#define F(x)\n"),
        ("#define A 1\n#define B 2\n", "#define A 1 #define B 2\n"),
        ("#define A 1\nint B;", "#define A 1 int B;\n"),
        ("float f(float e) { return 1e+5; }", "float f(float e) { return 1e +5; }"),
        ("float f = 1 .5f;", "float f = 1.5f;"),
        ("unsigned a;", "un signed a;"),
    ],
)
def test_white_space_that_a_compiler_reads_is_part_of_a_fingerprint(one: str, other: str) -> None:
    assert meaning(f"{one}\n{HEAD}") != meaning(f"{other}\n{HEAD}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("int f( int i )\n{\n\treturn i*2 ;\n}", "int f(int i) {return i * 2;}"),
        ("float t[ 2 ][ 3 ];", "float t[2][3];"),
        ("#define A  1\n\n\nint x = A;", "  #define A 1  \nint   x=A;"),
        ("#define A \\\n    1\nint x;", "#define A 1\nint x;"),
        ("auto f = a[ 0 ] , g = ( b ) ;", "auto f = a[0], g = (b);"),
    ],
)
def test_white_space_that_no_compiler_reads_is_no_part_of_a_fingerprint(one: str, other: str) -> None:
    assert meaning(one) == meaning(other)


_PIECES = st.sampled_from(
    ["a", "b1", "1", "1e", ".5", "1.", "+", "-", ">", "=", "<", ".", "*", "/", "&", ":", "(", "]", ";", "#", " ", "\n"]
)


@given(st.lists(_PIECES, max_size=12).map("".join))
def test_codes_with_one_meaning_are_read_alike_by_a_lexer_of_cpp(text: str) -> None:
    """The longest token first, as in C++; ours are never longer than these."""
    assert _cpp_tokens(meaning(text)) == _cpp_tokens(text)


def _cpp_tokens(text: str) -> list[str]:
    lexer = re.compile(
        r"[A-Za-z_]\w*|\.?\d(?:[eEpP][+-]|[\w.])*|<<=|>>=|->\*|\.\.\.|//|/\*|\*/"
        r"|::|\.\*|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|##|<:|:>|<%|%>|%:|[^\s\w]"
    )
    found = []
    for line in text.split("\n"):
        directive = line.lstrip().startswith("#")
        found += [("\n", *lexer.findall(line), "\n")] if directive else lexer.findall(line)
    return found


def test_compile_errors_name_lines_of_the_completion() -> None:
    completion = f"Sure!\n```cuda\n// swish\n__global__ {HEAD} {{\n    out[0] = missing;\n}}\n{LAUNCH}\n```"
    found = candidate(CUDA.parse(SWISH, completion))
    with pytest.raises(CompileError) as caught:
        nvrtc.compile_cubin(found.source)
    assert [d.line for d in caught.value.diagnostics] == [5]
    assert "missing" in caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    "parameters", ["float* x, float* out", "const float* x", "", "const float* x, float* out, int n"]
)
def test_another_signature_is_refused(parameters: str) -> None:
    found = refusal(cpp(f"void kernel({parameters}) {BODY}"))
    assert found.kind is RefusalKind.SYNTAX and "const float* x, float* out" in found.reason


@pytest.mark.parametrize(
    "parameters",
    [
        "const float *a, float *b",
        "float const* __restrict__ x, float* const __restrict__ out",
        "const float* x,\nfloat* y",
    ],
)
def test_a_signature_may_be_spelt_otherwise(parameters: str) -> None:
    candidate(cpp(f"void kernel({parameters}) {BODY}"))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("#include <stdio.h>\n", "line 1: #include is not allowed"),
        ('#include "/etc/passwd"\n', "#include is not allowed"),
        ("%:include <x>\n", "digraph"),
        ("int x;\nint y = __builtin_trap();\n", "line 2: '__builtin_trap'"),
        ('asm("syscall");', "'asm' is not allowed"),
        ("a\\\nsm(0);", "'asm' is not allowed"),
        ("#define A as##m\n", "'#' in a macro"),
        ("#define S(x) #x\n", "'#' in a macro"),
        ('const char* s = "x";', "a string"),
        ('extern "C" int system(const char*);', "extern is not allowed|a string"),
        ("extern int environ;", "extern"),
        ("__attribute__((constructor)) void f() {}", "'__attribute__'"),
        ("[[gnu::constructor]] void f() {}", "an attribute"),
        ("[ [gnu::constructor]] void f() {}", "an attribute"),
        ("<:<:gnu::constructor:>:> void f() {}", "a digraph"),
        ("struct S {}; S operator<<<:[gnu::noinline]](S a, int b);", "a digraph"),
        ("struct S {}; S operator<<<S>(S a, int b);", "(<<<)"),
        ("int f(int a<%3%>);", "a digraph"),
        ("#define L [\nvoid f L L gnu::constructor]]();", "'gnu'"),
        ("#define N\nvoid f [ N [gnu::constructor]]();", "'gnu'"),
        ("#define I(a) x[a]\nint I([__gnu__::used]);", "'__gnu__'"),
        ("void f [\n#if 1\n[nodiscard]]();\n#endif", "line 3: an attribute"),
        ("void f [/\\\n**/[nodiscard]]();", "a comment"),
        ("int x; /\\\n/ asm", "a comment sign"),
        ("int x; /* never ends", "a comment that does not end"),
        ("#define N\nvoid f() { [ N [omp::directive(target)]]; }", "'omp'"),
        ("#define A extern\nA int environ;", "extern in a macro"),
        ("void f [[\n#define A\nnodiscard]]();", "an attribute"),
        ("int x = __LINE__;", "'__LINE__'"),
        ("int x = __COUNTER__;", "'__COUNTER__'"),
        ("#if __TIME__\n#endif", "'__TIME__'"),
        ("int x =\f1;", "not a printable ASCII"),
        ("int x \x1c = 1;", "not a printable ASCII"),
        ("int x$ = 1;", "a dollar"),
        ("int x = 1'000;", "a digit separator"),
        ("#define T task\n#pragma omp T\n", "'T' is a macro"),
        ("#define T(x) x task\n#pragma omp parallel T(for)\n", "'T' is a macro"),
        ("#define N 2) allocate(x\n#pragma omp parallel num_threads(N)\n", "'N' is a macro"),
        ("# define \\\n N task\n# pragma omp N\n", "'N' is a macro"),
        ("#define parallel target\n#pragma omp parallel\n", "'parallel' is a macro"),
        ('_Pragma("GCC optimize 3")', "_Pragma|a string"),
        ("#pragma GCC optimize (3)\n", "#pragma GCC is not allowed"),
        ("#pragma omp target\n", "#pragma omp target"),
        ("#pragma omp parallel num_threads(2) allocate(x)\n", "allocate"),
        ("#line 7\n", "#line is not allowed"),
        ("int a = '\\n';", "a character"),
        ("int \\u0061sm;", "a backslash"),
        ("int é;", "not a printable ASCII"),
        ("/* x *\\\n/ asm(1); /* */ asm(2);", "'asm'"),
        ("thread_local int x;", "'thread_local'"),
        ("int x = 1 # 2;", "'#' stands inside"),
    ],
)
def test_what_reaches_beyond_a_kernel_is_refused(code: str, reason: str) -> None:
    found = refusal(cpp(f"{code}\n{HEAD} {BODY}"))
    assert found.kind is RefusalKind.FORBIDDEN
    assert any(words in found.reason for words in reason.split("|")), found.reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("__device__ void f() { cudaDeviceSynchronize(); }", "a kernel calls no library"),
        ("__global__ void g() {} __device__ void f() { g<<<1, 1>>>(); }", "a launch from the device"),
        ("__device__ void f() { __trap(); }", "'__trap'"),
        ("__device__ float* f() { return (float*)malloc(4); }", "allocates none on the device"),
        ("__device__ float* f() { return new float[4]; }", "allocates none on the device"),
        ("__device__ void f(float* p) { free(p); }", "'free'"),
        ("__device__ void f(float* p) { delete[] p; }", "'delete'"),
        ("__device__ void f(void* p) { ::operator delete(p); }", "'delete'"),
        ("__device__ void* f() { return __nv_aligned_device_malloc(4, 4); }", "a kernel calls no library"),
        ("__device__ void* f() { return __cudaCDP2GetParameterBufferV2(0, 0, 0, 0); }", "a kernel calls no library"),
        ("__device__ void f() { cudaLaunchDevice(0, 0, 1, 1, 0, 0); }", "a kernel calls no library"),
        ("__device__ void f() { __assertfail(0, 0, 0, 0, 1); }", "'__assertfail'"),
        ("__annotate__(managed) int x;", "'__annotate__'"),
        ("__location__(managed) int x;", "'__location__'"),
        ("#define D <<\n__device__ void f() { g<<\\\n<1, 1>>>(); }", "a launch from the device"),
    ],
)
def test_what_reaches_beyond_a_cuda_kernel_is_refused(code: str, reason: str) -> None:
    assert reason in refusal(CUDA.parse(SWISH, f"{code}\n__global__ {HEAD} {BODY}\n{LAUNCH}")).reason


@pytest.mark.parametrize(
    "code",
    [
        "#define TILE 8\n#if TILE > 4\n#undef TILE\n#endif",
        "#define TWO(a) \\\n    ((a) + \\\n     (a))",
        "#pragma GCC unroll 4",
        "#define THREADS 2\nvoid f() {\n#pragma omp parallel num_threads(THREADS)\n    {}\n}",
        "#define N (64)\nvoid f() {\n#pragma omp parallel for schedule(static, N)\nfor (int i = 0; i < 9; i++) {}\n}",
        "#pragma omp declare reduction(m : float : omp_out = max(omp_out, omp_in)) initializer(omp_priv = -INFINITY)",
        "float* f() { return (float*)malloc(16); }",
        "struct S { int x; }; int S::*p = &S::x; int f(S s, S* t) { return s.*p + t->*p; } int g(int, ...);",
        "template <int N> struct T {}; template <class A> struct U {}; U<U<U<int>>> u; int h = 0x1.8p+3 > 1.e+3;",
        "#pragma omp declare reduction(largest : float : omp_out = max(omp_out, omp_in))",
        "template <int N> struct Tile { float v[N]; };",
        "constexpr float SCALE = 1.5e-3f, other = .5f; // a 'comment' with \"quotes\"",
        "static float f(float v) { return __builtin_expect(v > 0, 1) ? v : -INFINITY; }",
    ],
)
def test_honest_code_passes(code: str) -> None:
    candidate(cpp(f"{code}\n{HEAD} {BODY}"))


def test_a_macro_goes_on_after_a_backslash_with_white_space_behind_it_in_both_languages() -> None:
    macro = "#define ONE 0.5f \\ \t\n    + 0.5f"
    code = f"{macro}\n__global__ {HEAD} {BODY.replace('1.0f', 'ONE')}\n{LAUNCH}"
    assert nvrtc.compile_cubin(candidate(CUDA.parse(SWISH, code)).source).startswith(b"\x7fELF")
    assert candidate(cpp(f"{macro} \n{HEAD} {BODY}")).source.count("\\\n    + 0.5f\n") == 1


def test_linkage_on_a_line_of_its_own_moves_no_line() -> None:
    found = candidate(cpp(f'extern "C"\n{HEAD} {BODY}'))
    assert found.source.endswith(f'"completion"\n\n{HEAD} {BODY}\n')


def test_dynamic_shared_memory_may_be_declared_in_cuda() -> None:
    head = "__global__ void __launch_bounds__(256) kernel(const float* x, float* out)"
    code = f"extern __shared__ float tile[];\n{head} {BODY}"
    assert candidate(CUDA.parse(SWISH, f"{code}\n{LAUNCH}, shared=4*256")).launch == Launch(
        (31104, 1, 1), (256, 1, 1), 1024
    )


@pytest.mark.parametrize(
    ("scaffold", "completion", "kind", "reason"),
    [
        (CPP, "", RefusalKind.EMPTY, "contains no code"),
        (CPP, "I cannot do that.", RefusalKind.EMPTY, "defines no function"),
        (CPP, "```cpp\nvoid other() {}\n```", RefusalKind.EMPTY, "defines no function"),
        (CPP, f"{HEAD} {BODY}\n{LAUNCH}", RefusalKind.SYNTAX, "has no launch line"),
        (CUDA, f"__global__ {HEAD} {BODY}", RefusalKind.SYNTAX, "0 launch lines"),
        (CUDA, f"__global__ {HEAD} {BODY}\n{LAUNCH}\n{LAUNCH}", RefusalKind.SYNTAX, "2 launch lines"),
        (CUDA, f"__global__ {HEAD} {BODY}\nlaunch: grid=y, block=1", RefusalKind.SYNTAX, "'y' is not a size"),
        (CPP, f"__global__ {HEAD} {BODY}\n{LAUNCH}", RefusalKind.SYNTAX, "written in CUDA"),
        (CUDA, f"{HEAD} {BODY}\n{LAUNCH}", RefusalKind.SYNTAX, "not declared `__global__`"),
        (CPP, "a\0b", RefusalKind.SYNTAX, "null byte"),
        (CPP, "x" * 40_000, RefusalKind.TOO_LONG, "40000 characters"),
    ],
)
def test_refusals(scaffold: KernelScaffold, completion: str, kind: RefusalKind, reason: str) -> None:
    found = refusal(scaffold.parse(SWISH, completion))
    assert found.kind is kind and reason in found.reason


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from([HEAD, BODY, LAUNCH, "```", "\n", "#", '"', "{", "/*", "*/"])).map("".join)
)
def test_no_text_makes_it_raise(text: str) -> None:
    for scaffold in (CPP, CUDA):
        assert isinstance(scaffold.parse(SWISH, text), Candidate | Refusal)


@pytest.mark.parametrize("scaffold", [CPP, CUDA])
def test_prompts_state_operation_signature_and_sizes(scaffold: KernelScaffold) -> None:
    prompt = scaffold.prompt(get_task(45), [get_task(25), get_task(84)])
    roles = [message.role for message in prompt.messages]
    assert roles == [Role.SYSTEM, *[Role.USER, Role.ASSISTANT] * 3] and prompt.stop == ("```",)
    question = prompt.messages[-2].content
    for words in (
        "nn.AvgPool2d",
        "kernel(const float* x, float* out)",
        "out_n = 67712",
        "x_3 = 512",
        "stride = 11",
        "NaN",
    ):
        assert words in question
    for example, id in ((prompt.messages[2], 25), (prompt.messages[4], 84)):
        written = scaffold.parse(get_task(id), example.content.split("\n", 1)[1].removesuffix("```"))
        assert (
            candidate(written).fingerprint
            == candidate(scaffold.parse(get_task(id), example_text(id, scaffold.language) or "")).fingerprint
        )


@pytest.mark.parametrize(("id", "words"), [(12, "evaluation task"), (31, "no example kernel")])
def test_examples_are_training_tasks_with_a_kernel(id: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        CPP.prompt(SWISH, [get_task(id)])

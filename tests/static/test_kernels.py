"""The machine code of every CUDA kernel keeps what `static.ptxas.CLAIMS` says of it."""

import json
import re
from pathlib import Path

import pytest
from static import ptxas
from static.ptxas import CLAIMS, Claim, Kernel, broken_claims

HERE = Path(__file__).resolve().parent
reason = ptxas.missing_tools()
needs_compiler = pytest.mark.skipif(reason is not None, reason=f"kernels cannot be inspected: {reason}")

REPORT = """
ptxas info    : (C7510) wgmma.mma_async instructions are serialized due to a call in the function '_Z3abcPf'
ptxas info    : 28 bytes gmem
ptxas info    : Compiling entry function '_Z3abcPf' for 'sm_80'
ptxas info    : Function properties for _Z3abcPf
    80 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 96 bytes cumulative stack size, 32 bytes smem, 592 bytes cmem[0]
ptxas info    : Function properties for helper
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
"""
CODE = """
\tarch = sm_80
\t\tFunction : _Z3abcPf
        /*0010*/                   LDG.E.128.CONSTANT R8, [R2.64] ;   /* 0x0000000804087981 */
        /*0020*/              @!P0 LDGSTS.E.BYPASS.128 [R7+0x400], [R2.64] ;
        /*0030*/               @P1 STG.E.U8 [R4.64], R8 ;
        /*0040*/                   LDS.128 R4, [R2] ;
        /*0050*/                   HMMA.16816.F32.BF16 R12, R12, R18, RZ ;
        /*0060*/                   USETMAXREG.TRY_ALLOC.CTAPOOL UP3, 0x70 ;
        /*0070*/                   USETMAXREG.DEALLOC.CTAPOOL 0x20 ;
"""


def test_report_is_read():
    kernels = ptxas.read_report(REPORT)
    ptxas.read_machine_code(CODE, kernels)
    expected = Kernel("_Z3abcPf", "sm_80", 64, 32, 96, 8, 16, {16: 2}, {1: 1}, {"HMMA.16816.F32": 1}, [112, 32])
    assert kernels == {("_Z3abcPf", "sm_80"): expected}


def test_serialized_products_are_noticed():
    (kernel,) = ptxas.read_report(REPORT.replace("sm_80", "sm_90a")).values()
    (sentence,) = broken_claims(kernel, Claim())
    assert "its wgmma instructions are serialized" in sentence
    assert broken_claims(kernel, Claim(hot=True, architecture="sm_80")) == []


@pytest.mark.parametrize(
    ("registers", "groups", "kept"),
    [(96, [112, 32], True), (96, [112, 40], False), (168, [240, 24], True), (168, [240, 32], False), (168, [], False)],
)
def test_warp_groups_that_wait_for_registers_are_noticed(registers, groups, kept):
    """Five warp groups of 96 registers: four of 112 leave 32 for the fifth. Three of 168: two of 240 leave 24."""
    found = broken_claims(Kernel("k", "sm_90a", registers, group_registers=groups), Claim(warp_groups=True))
    assert (found == []) == kept
    assert all(f"warp groups set {groups} of {registers} registers" in sentence for sentence in found)


def test_too_large_variables_are_noticed():
    kernel = Kernel("k", "sm_80", shared_bytes=1025)
    assert broken_claims(kernel, Claim(most_shared=1025)) == []
    (sentence,) = broken_claims(kernel, Claim(most_shared=1024))
    assert "its variables take 1025 bytes of shared memory, claimed are 1024" in sentence


@pytest.fixture(scope="session")
def kernels():
    return ptxas.inspect(ptxas.kernel_sources())


@pytest.fixture(scope="session")
def examples():
    """Small kernels of which it is known what must be found; the SIMT bench runs some of them too."""
    sources = [HERE / "kernels" / "costly.cu", *sorted((HERE.parent / "simt" / "kernels").glob("*.cu"))]
    return ptxas.inspect(sources, ptxas.ROOT / "build" / "static_examples")


@needs_compiler
def test_kernels_keep_their_claims(kernels):
    broken = [
        sentence for kernel in kernels for sentence in broken_claims(kernel, CLAIMS.get(kernel.function, Claim()))
    ]
    assert not broken, "\n".join(broken)


@needs_compiler
def test_kernels_of_many_registers_bound_their_blocks(kernels):
    """With 64 registers a thread a multiprocessor holds every block; with more, a launch could be refused."""
    sources = "".join(path.read_text() for path in sorted(ptxas.ROOT.glob("csrc/ops/cuda/*")))
    bounded = set(re.findall(r"__launch_bounds__\((?:[^()]|\([^()]*\))*\)\s+(\w+)\(", sources))
    assert bounded <= {kernel.function for kernel in kernels}
    assert {kernel.function for kernel in kernels if kernel.registers > 64} <= bounded


@needs_compiler
def test_every_claim_names_a_kernel(kernels):
    assert set(CLAIMS) <= {kernel.function for kernel in kernels}


@needs_compiler
def test_every_architecture_is_compiled(kernels, examples):
    for rows in (kernels, examples):
        names = {kernel.name for kernel in rows}
        assert {(k.name, k.architecture) for k in rows} == {(n, a) for n in names for a in ptxas.ARCHITECTURES}
        assert all(kernel.registers > 0 for kernel in rows)


@needs_compiler
def test_table_names_every_kernel(kernels):
    """Numbers differ between compilers; a kernel that is missing means that the table was not written again."""
    table = json.loads(ptxas.TABLE.read_text())["kernels"]
    listed = {(row["name"], row["architecture"]) for row in table}
    assert listed == {(k.name, k.architecture) for k in kernels}, "run 'python tests/static/ptxas.py'"


@needs_compiler
@pytest.mark.parametrize(
    ("function", "claim", "sentence"),
    [
        ("spills", Claim(hot=True), "it spills"),
        ("local_array", Claim(hot=True), "bytes in local memory"),
        ("narrow_copy", Claim(load_bytes=(16,)), "its global loads are [4] bytes wide, claimed are [16]"),
        ("byte_copy", Claim(store_bytes=(16,)), "its global stores are [1] bytes wide, claimed are [16]"),
        ("wide_copy", Claim(load_bytes=(16, 4)), "its global loads are [16] bytes wide, claimed are [4, 16]"),
        ("narrow_copy", Claim(widest_store=8), "its widest global store is 4 bytes, claimed are 8"),
        ("narrow_copy", Claim(tensor_cores=True), "it has no tensor-core instruction"),
    ],
)
def test_broken_claims_are_noticed(examples, function, claim, sentence):
    found = [kernel for kernel in examples if kernel.name.startswith(f"{function}(")]  # of costly.cu: no namespace
    assert len(found) == len(ptxas.ARCHITECTURES)
    for kernel in found:
        assert any(sentence in text for text in broken_claims(kernel, claim)), kernel


@needs_compiler
@pytest.mark.parametrize(
    ("function", "claim"),
    [
        ("wide_copy", Claim(hot=True, load_bytes=(16,), store_bytes=(16,))),
        ("narrow_copy", Claim(hot=True, load_bytes=(4,), store_bytes=(4,))),
        ("wide_copy", Claim(widest_store=16)),
        ("vectorised", Claim(hot=True, load_bytes=(16, 4), store_bytes=(16, 4))),
        ("product_of_fragments", Claim(hot=True, tensor_cores=True)),
        ("product_through_shared", Claim(hot=True, tensor_cores=True, load_bytes=(16,))),
        ("product_tf32", Claim(hot=True, tensor_cores=True)),
    ],
)
def test_kept_claims_pass(examples, function, claim):
    found = [kernel for kernel in examples if kernel.function == function]
    assert len(found) >= 2
    assert [sentence for kernel in found for sentence in broken_claims(kernel, claim)] == []

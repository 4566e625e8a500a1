"""The CPU kernels take memory once a call, not once an image: every allocation of a process is counted."""

import json
import os
import shutil
import subprocess
import sys

import pytest

# What glibc's own functions are called besides the names that are counted; with them nothing has to be looked up.
COUNTER = """
#include <errno.h>
#include <stddef.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
static long count;
#define COUNTED __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED)

long allocations(void) { return __atomic_load_n(&count, __ATOMIC_RELAXED); }
void *malloc(size_t bytes) { COUNTED; return __libc_malloc(bytes); }
void *calloc(size_t items, size_t bytes) { COUNTED; return __libc_calloc(items, bytes); }
void *realloc(void *old, size_t bytes) { COUNTED; return __libc_realloc(old, bytes); }
void *memalign(size_t alignment, size_t bytes) { COUNTED; return __libc_memalign(alignment, bytes); }
void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void **result, size_t alignment, size_t bytes) {
  *result = memalign(alignment, bytes);
  return *result ? 0 : ENOMEM;
}
"""

# Prints, for each case, the allocations of a call on few copies of a batch and on many. Copies of one image, drawn
# alike, ask for nothing that the first of them did not.
PROGRAM = """
import ctypes, json, torch
from ops.samples_augment import arguments, ragged
from sslfast import ops
from sslfast.augment import ViewSpec, presets

torch.set_num_threads(1)
allocations = ctypes.CDLL(None).allocations
batch = ragged([(90, 70), (8, 200), (33, 32), (1, 1)])
strong = presets.simclr(32)[0].replace(jitter=1.0, blur=1.0, solarize=0.5, cutout=1.0)
views = {
    "plain": (presets.plain(32)[0], torch.float32, False),
    "simclr": (strong, torch.float32, False),
    "simclr channels_last": (strong, torch.float16, True),
    "bicubic": (strong.replace(interpolation="bicubic", channel_drop=1.0), torch.bfloat16, False),
    "rotation sobel": (strong.replace(rotation_range=(-45.0, 45.0), sobel=1.0), torch.float32, True),
    "noise": (strong.replace(noise_gaussian=0.1, noise_salt_pepper=0.1, noise_masking=0.1), torch.float32, False),
    "tall": (strong.replace(size=(200, 3)), torch.float32, False),
}

def counted(call):
    call()
    before = allocations()
    call()
    return allocations() - before

def copies(times, spec, dtype, channels_last):
    images = batch.select(torch.arange(len(batch)).repeat(times))
    params, keys = ops.augment_params(spec, images.index, images.sizes)
    args = arguments(images, params, keys, spec, dtype, channels_last)
    return (
        counted(lambda: torch.ops.sslfast.augment(*args)),
        counted(lambda: ops.augment_params(spec, images.index, images.sizes)),
    )

print(json.dumps({name: [copies(times, *view) for times in (2, 40)] for name, view in views.items()}))
"""


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """Case -> ((of augment, of augment_params) for few images, the same for many)."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("counting allocations takes Linux and a C compiler")
    folder = tmp_path_factory.mktemp("allocations")
    source, library = folder / "counter.c", folder / "counter.so"
    source.write_text(COUNTER)
    command = [compiler, "-O1", "-shared", "-fPIC", "-fno-builtin", str(source), "-o", str(library)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode != 0:
        pytest.skip(f"the counter of allocations needs glibc: {built.stderr[-500:]}")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def test_the_counter_counts(counts):
    """Every call makes a result at least."""
    assert all(allocations >= 1 for case in counts.values() for call in case for allocations in call)


@pytest.mark.parametrize("position", [0, 1], ids=["augment", "augment_params"])
def test_no_allocation_is_made_for_each_image(counts, position):
    for name, (few, many) in counts.items():
        assert many[position] == few[position], f"{name}: {few[position]} of 8 images, {many[position]} of 160"

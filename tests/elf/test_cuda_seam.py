"""What private code asks of the CUDA runtime, with libraries in the place of NVIDIA's."""

from __future__ import annotations

import ctypes

import pytest
from isolated import in_pool

RUNTIME = """
int asked;
int cudaGetDevice(int *device) { ++asked; *device = 5; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = VERSION; return 0; }
"""
DRIVER = """
int has_context;
int asked_without;
int cuCtxGetCurrent(void **context) { *context = has_context ? &has_context : 0; return 0; }
int cuCtxGetDevice(int *device) { if (!has_context) { ++asked_without; return 201; } *device = 1; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + FIRST; return 0; }
"""
USER = """
int cudaGetDevice(int *device);
int current(void) { int device = -1; return cudaGetDevice(&device) == 0 ? device : -1; }
"""


@pytest.mark.parametrize(
    ("first", "version", "expected"),
    [
        (0, 13000, [5, 1, 5, 2, 5, 3, 1, 3, 0]),
        (8, 13000, [5, 1, 5, 2, 5, 3, 5, 4, 0]),
        (0, 11080, [5, 1, 5, 2, 5, 3, 5, 4, 0]),  # its context may be that of the device before
    ],
    ids=["numbered alike", "numbered otherwise", "an old runtime"],
)
def test_the_current_device_is_the_drivers_once_there_is_one_with_a_context(
    workshop, first, version, expected
):
    runtime = workshop.library("cudart", RUNTIME, f"-DVERSION={version}")
    driver = workshop.library("cuda", DRIVER, f"-DFIRST={first}", soname="libcuda.so.1")
    user = workshop.library("private_user", USER, needs=(runtime,))

    def scenario(pool):
        def ask():
            private, shared = ctypes.CDLL(user), ctypes.CDLL(runtime)
            answers = []

            def note():
                answers.extend([private.current(), ctypes.c_int.in_dll(shared, "asked").value])

            note()
            loaded = ctypes.CDLL(driver)
            note()
            note()
            ctypes.c_int.in_dll(loaded, "has_context").value = 1
            note()
            return [*answers, ctypes.c_int.in_dll(loaded, "asked_without").value]

        return pool.submit(ask).result()

    assert in_pool(scenario) == expected

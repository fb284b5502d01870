// The seam of CUDA: what private images take of a GPU is noted for their interpreter, and they do not wait for each
// other where they need not.
//
// libcudart, cuBLAS and the like are shared libraries and stay as they are. References of private images to the few
// functions of them that take and give back (cudaMalloc and cudaFree; cublasCreate, cudnnCreate … and what destroys
// such handles) are bound to ours, which call them by way of the caller's DeviceMemory (base/device_memory.h).
//
// Captures of graphs are counted (base/graph_captures.h), those of the host's libraries as well.
//
// What a thread is told by cudaGetDevice it is told by the driver instead: torch asks some fifteen times for each
// kernel it launches, and libcudart takes a lock of the whole process each time. When it first asks with the driver
// loaded, the driver's own locks are made patient (patient_locks.h).
#pragma once

#include <string_view>

#include "base/export.h"

namespace multipy::elf {

/// What `name`, which a shared library defines at `address`, is bound to in a private image: mostly just that.
void* cuda_seam(std::string_view name, void* address);

/// Has the captures of those libraries counted that the process has loaded since this was called last.
MULTIPY_API void count_captures_of_host();

}  // namespace multipy::elf

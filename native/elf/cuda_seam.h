// The seam of CUDA: what private images take of a GPU is noted for their interpreter.
//
// libcudart, cuBLAS and the like are shared libraries and stay as they are. References of private images to the few
// functions of them that take and give back (cudaMalloc and cudaFree; cublasCreate, cudnnCreate … and what destroys
// such handles) are bound to ours, which call them by way of the caller's DeviceMemory (base/device_memory.h).
#pragma once

#include <string_view>

namespace multipy::elf {

/// What `name`, which a shared library defines at `address`, is bound to in a private image: mostly just that.
void* cuda_seam(std::string_view name, void* address);

}  // namespace multipy::elf

// What the private libraries of one interpreter have taken of the GPUs: memory, and handles of NVIDIA's libraries.
//
// Problem: torch keeps what it once took from the GPU in a cache of its own, and the caches of several interpreters
// compete for one GPU. An interpreter that runs out must be able to have the others give back what they do not use,
// and one that ends must leave nothing behind, but for tensors of it that others still have.
//
// Model: private images call cudaMalloc and cudaFree through a DeviceMemory, one per namespace, which notes each
// *segment* taken. libcudart itself is shared and never sees a difference. A tensor handed over has a *lease* of the
// segment it lies in. When the interpreter has ended, segments without a lease are freed, the others with their last
// lease: the allocator they came from is gone by then, and its deleters must not be called any more. So it is with
// pinned memory of the CPU (cudaHostAlloc, cudaFreeHost), which torch keeps in a cache as well; it is not counted.
//
// Out of memory: torch tries, frees its own cache, and tries again. The second refusal of the same size in a row on one
// thread is when we have the others free theirs (device_caches.h) and try once more. If that fails as well, the
// caller sees the driver's refusal, and torch raises its own error.
//
// Handles: torch makes one of cuBLAS, cuDNN and the like for each thread and never destroys it, as it would be too late
// when a process ends. One of cuBLAS holds 64 MB. An interpreter's are noted in the same way, and destroyed at its end.
//
// Threads and locks: any thread; one mutex per interpreter, not held while the driver is called.
//
// Not covered: what is taken by other ways than cudaMalloc (torch's expandable segments and its asynchronous
// backend), and what the driver takes for kernels.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

#include "base/export.h"

namespace multipy {

class MULTIPY_API DeviceMemory {
 public:
  /// The runtime's functions, under the ABI of every CUDA version: cudaError_t is an int, 0 is success.
  struct Runtime {
    int (*allocate)(void**, std::size_t);       // cudaMalloc
    int (*release)(void*);                      // cudaFree
    int (*take_error)();                        // cudaGetLastError
    int (*pin)(void**, std::size_t, unsigned);  // cudaHostAlloc
    int (*unpin)(void*);                        // cudaFreeHost
  };
  /// Two functions of a library, as all of NVIDIA's have them.
  struct Handles {
    int (*create)(void** handle);
    int (*destroy)(void* handle);
  };
  static constexpr int kOutOfMemory = 2;  // cudaErrorMemoryAllocation

  DeviceMemory() = default;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// Says how to take and give back: before anything is, with what lives for ever.
  void use(const Runtime& runtime) noexcept { runtime_.store(&runtime, std::memory_order_release); }

  /// cudaMalloc and cudaFree of this interpreter.
  int allocate(void** pointer, std::size_t size);
  int release(void* pointer);
  /// cudaHostAlloc and cudaFreeHost.
  int pin(void** pointer, std::size_t size, unsigned flags);
  int unpin(void* pointer);

  /// Makes a handle by `handles`, and destroys one.
  int create(const Handles& handles, void** handle);
  int destroy(const Handles& handles, void* handle);

  /// Bytes of the GPUs in all segments.
  std::uint64_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }

  /// Takes a lease of the segment that `address` lies in; false: it lies in none of this interpreter's.
  bool lease(const void* address);
  /// Gives a lease back. True if the interpreter has ended, and the memory is no longer its allocator's to release.
  bool end_lease(const void* address);

  /// The interpreter's allocator is about to go: from here on end_lease() returns true.
  void end() noexcept;
  /// Destroys the handles, and frees what has no lease, now or with the last one. After end().
  void free_rest();

 private:
  struct Segment {
    std::size_t size;
    bool is_on_gpu;
    std::size_t leases = 0;
  };
  struct Freed {
    void* pointer;
    bool is_on_gpu;
  };
  using Segments = std::map<std::uintptr_t, Segment>;

  Segments::iterator find(const void* address);
  void note(void* pointer, const Segment& segment);
  void forget(Segments::iterator segment);
  void forget(void* pointer);
  void free(const Freed& freed);

  std::atomic<const Runtime*> runtime_ = nullptr;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::mutex mutex_;                         // guards what follows
  std::map<void*, int (*)(void*)> handles_;  // and what destroys each
  Segments segments_;
  bool ended_ = false;
  bool is_ours_ = false;  // free_rest() was called: nobody else frees what is left
};

}  // namespace multipy

// What an interpreter takes from a GPU: counted, lent out, and freed when it and those who have leases are gone.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/device_caches.h"
#include "base/device_memory.h"

using multipy::DeviceCaches;
using multipy::DeviceMemory;

namespace {

/// A GPU of a kilobyte, in the place of the CUDA runtime.
struct SmallGpu {
  static inline std::map<char*, std::size_t> taken;
  static inline std::size_t room = 1024;
  static inline char* next = nullptr;
  static inline int error = 0;

  static int allocate(void** pointer, std::size_t size) {
    if (size > room) return error = DeviceMemory::kOutOfMemory;
    room -= size;
    taken[next] = size;
    *pointer = next;
    next += size;
    return 0;
  }
  static int release(void* pointer) {
    const auto found = taken.find(static_cast<char*>(pointer));
    REQUIRE(found != taken.end());
    room += found->second;
    taken.erase(found);
    return 0;
  }
  static int take_error() { return std::exchange(error, 0); }
  static int pin(void** pointer, std::size_t size, unsigned) { return allocate(pointer, size); }

  SmallGpu() {
    taken.clear();
    room = 1024;
    next = reinterpret_cast<char*>(0x10000);
    error = 0;
  }

  void serve(DeviceMemory& memory) const {
    static constexpr DeviceMemory::Runtime runtime{allocate, release, take_error, pin, release};
    memory.use(runtime);
  }
};

void* take(DeviceMemory& memory, std::size_t size) {
  void* pointer = nullptr;
  REQUIRE(memory.allocate(&pointer, size) == 0);
  return pointer;
}

}  // namespace

TEST_CASE("memory is counted until it is released") {
  const SmallGpu gpu;
  DeviceMemory memory;
  gpu.serve(memory);
  void* first = take(memory, 100);
  take(memory, 200);
  CHECK(memory.bytes() == 300);
  CHECK(memory.release(first) == 0);
  CHECK(memory.bytes() == 200);
}

TEST_CASE("what has no lease is freed at the end, the rest with its last lease") {
  const SmallGpu gpu;
  DeviceMemory memory;
  gpu.serve(memory);
  take(memory, 100);
  char* shared = static_cast<char*>(take(memory, 200));
  CHECK(memory.lease(shared));
  CHECK(memory.lease(shared + 199));
  CHECK_FALSE(memory.lease(shared + 200));
  memory.end();
  memory.free_rest();
  CHECK(SmallGpu::taken.size() == 1);
  CHECK(memory.bytes() == 200);
  CHECK(memory.end_lease(shared));
  CHECK(SmallGpu::taken.size() == 1);
  CHECK(memory.end_lease(shared + 199));
  CHECK(SmallGpu::taken.empty());
}

TEST_CASE("a lease that ends between the end of the interpreter and that of its destructors frees nothing yet") {
  const SmallGpu gpu;
  DeviceMemory memory;
  gpu.serve(memory);
  void* shared = take(memory, 200);
  CHECK(memory.lease(shared));
  memory.end();
  CHECK(memory.end_lease(shared));
  CHECK(SmallGpu::taken.size() == 1);
  memory.free_rest();
  CHECK(SmallGpu::taken.empty());
}

TEST_CASE("while its interpreter is alive, who ends a lease is to call the deleter") {
  const SmallGpu gpu;
  DeviceMemory memory;
  gpu.serve(memory);
  void* shared = take(memory, 200);
  CHECK(memory.lease(shared));
  CHECK_FALSE(memory.end_lease(shared));
  CHECK(SmallGpu::taken.size() == 1);
}

TEST_CASE("pinned memory is not counted, and has leases and an end as that of the GPU") {
  const SmallGpu gpu;
  DeviceMemory memory;
  gpu.serve(memory);
  void* kept = nullptr;
  void* given_back = nullptr;
  REQUIRE(memory.pin(&kept, 100, 0) == 0);
  REQUIRE(memory.pin(&given_back, 100, 0) == 0);
  CHECK(memory.bytes() == 0);
  CHECK(memory.unpin(given_back) == 0);
  CHECK(memory.lease(kept));
  memory.end();
  memory.free_rest();
  CHECK(SmallGpu::taken.size() == 1);
  CHECK(memory.end_lease(kept));
  CHECK(SmallGpu::taken.empty());
}

TEST_CASE("handles that were never destroyed are so at the end, once") {
  static std::map<void*, int> handles;
  handles.clear();
  const DeviceMemory::Handles library{
      [](void** handle) {
        *handle = reinterpret_cast<void*>(0x1000 + handles.size());
        handles[*handle] = 0;
        return 0;
      },
      [](void* handle) { return ++handles[handle], 0; },
  };
  DeviceMemory memory;
  void* first = nullptr;
  void* second = nullptr;
  CHECK(memory.create(library, &first) == 0);
  CHECK(memory.create(library, &second) == 0);
  CHECK(memory.destroy(library, first) == 0);
  CHECK(handles[second] == 0);
  memory.end();
  memory.free_rest();
  CHECK(handles[first] == 1);
  CHECK(handles[second] == 1);
}

TEST_CASE("the second refusal in a row empties the caches of others, and memory is asked for again") {
  const SmallGpu gpu;
  static DeviceMemory* full = nullptr;
  static void* cached = nullptr;
  DeviceMemory memory;
  DeviceMemory other;
  full = &other;
  gpu.serve(memory);
  gpu.serve(other);
  cached = take(other, 1000);
  const auto offer = DeviceCaches::offer(&other, [] { full->release(cached); });
  void* pointer = nullptr;
  // After the first one an allocator frees its own cache.
  CHECK(memory.allocate(&pointer, 500) == DeviceMemory::kOutOfMemory);
  CHECK(other.bytes() == 1000);
  CHECK(memory.allocate(&pointer, 500) == 0);
  CHECK(other.bytes() == 0);
  CHECK(memory.bytes() == 500);
  CHECK(SmallGpu::error == 0);
  DeviceCaches::withdraw(offer);
}

TEST_CASE("a refusal stays one where nobody has anything to give back, and where only one's own cache is offered") {
  const SmallGpu gpu;
  static std::atomic<int> asked = 0;
  DeviceMemory memory;
  gpu.serve(memory);
  const auto offer = DeviceCaches::offer(&memory, [] { ++asked; });
  void* pointer = nullptr;
  for (int i = 0; i < 4; ++i) CHECK(memory.allocate(&pointer, 5000) == DeviceMemory::kOutOfMemory);
  CHECK(asked == 0);
  CHECK(memory.bytes() == 0);
  DeviceCaches::withdraw(offer);
}

TEST_CASE("a withdrawn cache is left alone, and withdrawing waits for who is emptying it") {
  static std::atomic<bool> began = false;
  static std::atomic<bool> go = false;
  static std::atomic<bool> done = false;
  const auto offer = DeviceCaches::offer(&began, [] {
    began = true;
    began.notify_all();
    go.wait(false);
    done = true;
  });
  std::thread asker([] { DeviceCaches::empty_others(nullptr); });
  began.wait(false);
  std::thread opener([] {
    go = true;
    go.notify_all();
  });
  DeviceCaches::withdraw(offer);
  CHECK(done);
  asker.join();
  opener.join();
  CHECK_FALSE(DeviceCaches::empty_others(nullptr));
}

TEST_CASE("two who run out at once do not wait for each other, though each holds the lock of its allocator") {
  constexpr std::chrono::minutes kForEver{5};
  static std::mutex locks[2];
  // Emptying a cache takes its allocator's lock, which its owner holds while it asks.
  const auto first = DeviceCaches::offer(&locks[0], [] { const std::lock_guard lock(locks[0]); });
  const auto second = DeviceCaches::offer(&locks[1], [] { const std::lock_guard lock(locks[1]); });
  std::atomic<int> asking = 0;
  std::atomic<bool> answers[2] = {false, false};
  const auto began = std::chrono::steady_clock::now();
  const auto ask = [&](int whose) {
    const std::lock_guard own(locks[whose]);
    ++asking;
    while (asking < 2) std::this_thread::yield();
    answers[whose] = DeviceCaches::empty_others(&locks[whose], kForEver);
  };
  std::thread one([&] { ask(0); });
  std::thread two([&] { ask(1); });
  one.join();
  two.join();
  DeviceCaches::withdraw(first);
  DeviceCaches::withdraw(second);
  CHECK(answers[0]);
  CHECK(answers[1]);
  CHECK(std::chrono::steady_clock::now() - began < kForEver);
}

#include "base/device_memory.h"

#include <vector>

#include "base/device_caches.h"

namespace multipy {

namespace {

/// The size that the driver has refused last on this thread; 0: it has not since.
thread_local std::size_t refused = 0;

}  // namespace

bool DeviceMemory::note(std::string_view name, void* address) noexcept {
  if (name == "cudaMalloc") {
    runtime_.allocate = reinterpret_cast<int (*)(void**, std::size_t)>(address);
  } else if (name == "cudaFree") {
    runtime_.release = reinterpret_cast<int (*)(void*)>(address);
  } else {
    if (name == "cudaGetLastError") runtime_.take_error = reinterpret_cast<int (*)()>(address);
    return false;
  }
  return true;
}

int DeviceMemory::allocate(void** pointer, std::size_t size) {
  int status = runtime_.allocate.load()(pointer, size);
  if (status == kOutOfMemory && refused == size && runtime_.take_error != nullptr) {
    refused = 0;
    if (DeviceCaches::empty_others(this)) {
      // The refusal must not be found later, by somebody who asks whether a kernel was launched.
      runtime_.take_error.load()();
      status = runtime_.allocate.load()(pointer, size);
    }
  } else {
    refused = status == kOutOfMemory ? size : 0;
  }
  if (status == 0 && size != 0) {
    const std::lock_guard lock(mutex_);
    segments_.insert_or_assign(reinterpret_cast<std::uintptr_t>(*pointer), Segment{size});
    bytes_ += size;
  }
  return status;
}

int DeviceMemory::release(void* pointer) {
  {
    // First, since the driver may give the address to another thread at once.
    const std::lock_guard lock(mutex_);
    const auto segment = segments_.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (segment != segments_.end()) forget(segment);
  }
  return runtime_.release.load()(pointer);
}

DeviceMemory::Segments::iterator DeviceMemory::find(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  auto segment = segments_.upper_bound(at);
  if (segment == segments_.begin()) return segments_.end();
  --segment;
  return at - segment->first < segment->second.size ? segment : segments_.end();
}

void DeviceMemory::forget(Segments::iterator segment) {
  bytes_ -= segment->second.size;
  segments_.erase(segment);
}

bool DeviceMemory::lease(const void* address) {
  const std::lock_guard lock(mutex_);
  const auto segment = find(address);
  if (segment == segments_.end()) return false;
  ++segment->second.leases;
  return true;
}

bool DeviceMemory::end_lease(const void* address) {
  void* to_free = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto segment = find(address);
    if (segment == segments_.end()) return ended_;
    --segment->second.leases;
    if (!ended_) return false;
    if (is_ours_ && segment->second.leases == 0) {
      to_free = reinterpret_cast<void*>(segment->first);
      forget(segment);
    }
  }
  if (to_free != nullptr) runtime_.release.load()(to_free);
  return true;
}

void DeviceMemory::end() noexcept {
  const std::lock_guard lock(mutex_);
  ended_ = true;
}

void DeviceMemory::free_rest() {
  std::vector<void*> rest;
  {
    const std::lock_guard lock(mutex_);
    is_ours_ = true;
    for (auto segment = segments_.begin(); segment != segments_.end();) {
      const auto next = std::next(segment);
      if (segment->second.leases == 0) {
        rest.push_back(reinterpret_cast<void*>(segment->first));
        forget(segment);
      }
      segment = next;
    }
  }
  for (void* pointer : rest) runtime_.release.load()(pointer);
}

}  // namespace multipy

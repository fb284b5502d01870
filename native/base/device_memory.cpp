#include "base/device_memory.h"

#include "base/device_caches.h"

namespace multipy {

namespace {

/// The size that the driver has refused last on this thread; 0: it has not since.
thread_local std::size_t refused = 0;

}  // namespace

int DeviceMemory::allocate(void** pointer, std::size_t size) {
  const Runtime& runtime = *runtime_.load(std::memory_order_acquire);
  int status = runtime.allocate(pointer, size);
  if (status == kOutOfMemory && refused == size) {
    refused = 0;
    if (DeviceCaches::empty_others(this)) {
      // The refusal must not be found later, by somebody who asks whether a kernel was launched.
      runtime.take_error();
      status = runtime.allocate(pointer, size);
    }
  } else {
    refused = status == kOutOfMemory ? size : 0;
  }
  if (status == 0 && size != 0) note(*pointer, {size, true});
  return status;
}

int DeviceMemory::release(void* pointer) {
  // First, since the driver may give the address to another thread at once.
  forget(pointer);
  return runtime_.load(std::memory_order_acquire)->release(pointer);
}

int DeviceMemory::pin(void** pointer, std::size_t size, unsigned flags) {
  const int status = runtime_.load(std::memory_order_acquire)->pin(pointer, size, flags);
  if (status == 0 && size != 0) note(*pointer, {size, false});
  return status;
}

int DeviceMemory::unpin(void* pointer) {
  forget(pointer);
  return runtime_.load(std::memory_order_acquire)->unpin(pointer);
}

void DeviceMemory::free(const Freed& freed) {
  const Runtime& runtime = *runtime_.load(std::memory_order_acquire);
  freed.is_on_gpu ? runtime.release(freed.pointer) : runtime.unpin(freed.pointer);
}

int DeviceMemory::create(const Handles& handles, void** handle) {
  const int status = handles.create(handle);
  if (status == 0) {
    const std::lock_guard lock(mutex_);
    handles_.insert_or_assign(*handle, handles.destroy);
  }
  return status;
}

int DeviceMemory::destroy(const Handles& handles, void* handle) {
  {
    const std::lock_guard lock(mutex_);
    handles_.erase(handle);
  }
  return handles.destroy(handle);
}

DeviceMemory::Segments::iterator DeviceMemory::find(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  auto segment = segments_.upper_bound(at);
  if (segment == segments_.begin()) return segments_.end();
  --segment;
  return at - segment->first < segment->second.size ? segment : segments_.end();
}

void DeviceMemory::note(void* pointer, const Segment& segment) {
  const std::lock_guard lock(mutex_);
  segments_.insert_or_assign(reinterpret_cast<std::uintptr_t>(pointer), segment);
  if (segment.is_on_gpu) bytes_ += segment.size;
}

void DeviceMemory::forget(Segments::iterator segment) {
  if (segment->second.is_on_gpu) bytes_ -= segment->second.size;
  segments_.erase(segment);
}

void DeviceMemory::forget(void* pointer) {
  const std::lock_guard lock(mutex_);
  const auto segment = segments_.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (segment != segments_.end()) forget(segment);
}

bool DeviceMemory::lease(const void* address) {
  const std::lock_guard lock(mutex_);
  const auto segment = find(address);
  if (segment == segments_.end()) return false;
  ++segment->second.leases;
  return true;
}

bool DeviceMemory::end_lease(const void* address) {
  Freed to_free{};
  {
    const std::lock_guard lock(mutex_);
    const auto segment = find(address);
    if (segment == segments_.end()) return ended_;
    --segment->second.leases;
    if (!ended_) return false;
    if (is_ours_ && segment->second.leases == 0) {
      to_free = {reinterpret_cast<void*>(segment->first), segment->second.is_on_gpu};
      forget(segment);
    }
  }
  if (to_free.pointer != nullptr) free(to_free);
  return true;
}

void DeviceMemory::end() noexcept {
  const std::lock_guard lock(mutex_);
  ended_ = true;
}

void DeviceMemory::free_rest() {
  std::map<void*, int (*)(void*)> handles;
  {
    const std::lock_guard lock(mutex_);
    is_ours_ = true;
    handles.swap(handles_);
  }
  for (const auto& [handle, destroy] : handles) destroy(handle);
  // One by one, as there may be no memory for a list.
  for (std::uintptr_t from = 0;;) {
    Freed next{};
    {
      const std::lock_guard lock(mutex_);
      auto segment = segments_.lower_bound(from);
      while (segment != segments_.end() && segment->second.leases != 0) ++segment;
      if (segment == segments_.end()) return;
      from = segment->first;
      next = {reinterpret_cast<void*>(segment->first), segment->second.is_on_gpu};
      forget(segment);
    }
    free(next);
  }
}

}  // namespace multipy

#include "bindings/export_guard.h"

#include <cstring>
#include <mutex>
#include <unordered_map>

namespace multipy::bindings {

namespace {

// Written under the GIL, once.
std::size_t storage_offset = 0;
std::size_t flag_offset = 0;  // 0: not known

std::mutex mutex;
std::unordered_map<std::uint8_t*, std::size_t>& holds = *new std::unordered_map<std::uint8_t*, std::size_t>();

/// The flag of a tensor's storage, turned off; null if there is none to turn off.
std::uint8_t* turn_off(std::uintptr_t tensor) {
  if (tensor == 0 || flag_offset == 0) return nullptr;
  std::uint8_t* storage;
  std::memcpy(&storage, reinterpret_cast<const void*>(tensor + storage_offset), sizeof storage);
  if (storage == nullptr) return nullptr;
  std::uint8_t* const flag = storage + flag_offset;
  const std::lock_guard lock(mutex);
  const auto found = holds.find(flag);
  if (found != holds.end()) {
    ++found->second;
    return flag;
  }
  if (*flag != 1) return nullptr;  // it cannot be resized anyway
  holds.emplace(flag, 1);
  *flag = 0;
  return flag;
}

void turn_on(std::uint8_t* flag) {
  const std::lock_guard lock(mutex);
  const auto found = holds.find(flag);
  if (--found->second != 0) return;
  holds.erase(found);
  *flag = 1;
}

}  // namespace

void set_torch_layout(std::size_t of_storage, std::size_t of_flag) noexcept {
  storage_offset = of_storage;
  flag_offset = of_flag;
}

ExportGuard::ExportGuard(nanobind::object object, std::uintptr_t tensor)
    : object_(object.is_none() ? nullptr : object.release().ptr()), flag_(turn_off(tensor)) {}

ExportGuard::~ExportGuard() {
  if (flag_ != nullptr) turn_on(flag_);
  if (object_ == nullptr || Py_IsInitialized() == 0) return;
  const PyGILState_STATE state = PyGILState_Ensure();
  Py_DECREF(object_);
  PyGILState_Release(state);
}

}  // namespace multipy::bindings

#include "elf/cuda_seam.h"

#include <dlfcn.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <utility>

#include "base/device_memory.h"
#include "elf/namespace.h"
#include "elf/patient_locks.h"

namespace multipy::elf {

namespace {

struct Names {
  std::string_view create;
  const char* destroy;
};
constexpr std::array<Names, 4> kLibraries{{{"cublasCreate_v2", "cublasDestroy_v2"},
                                           {"cudnnCreate", "cudnnDestroy"},
                                           {"cusolverDnCreate", "cusolverDnDestroy"},
                                           {"cusparseCreate", "cusparseDestroy"}}};

// A process has one copy of each library; should it have two, the second one's functions stay as they are.
std::mutex found_mutex;
DeviceMemory::Runtime runtime{};
std::array<DeviceMemory::Handles, kLibraries.size()> handles{};

/// Whose call it is. `address` is that of the call's return.
DeviceMemory& memory_of(const void* address) {
  static DeviceMemory& nobodys = *new DeviceMemory;
  const Image* image = image_at(address);
  Namespace* space = image != nullptr ? &image->owner() : thread_namespace();
  DeviceMemory& memory = space != nullptr ? space->device_memory() : nobodys;
  memory.use(runtime);
  return memory;
}

int seam_malloc(void** pointer, std::size_t size) {
  return memory_of(__builtin_return_address(0)).allocate(pointer, size);
}

int seam_free(void* pointer) { return memory_of(__builtin_return_address(0)).release(pointer); }

using GetDevice = int(int* device);
using GetContext = int(void** context);
std::atomic<GetDevice*> ask_runtime = nullptr;  // cudaGetDevice
std::atomic<GetDevice*> ask_driver = nullptr;   // cuCtxGetDevice, once the driver is known
GetContext* get_context = nullptr;              // cuCtxGetCurrent, written before ask_driver

/// Whether the thread's context is always one of the device it has chosen. Before CUDA 12, cudaSetDevice left the old
/// one in place until there was need of another.
bool sets_context_at_once(GetDevice* get_device) {
  constexpr int kCuda12 = 12'000;
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(get_device), &info) == 0) return false;
  void* const library = ::dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return false;
  const auto get_version = reinterpret_cast<int (*)(int*)>(::dlsym(library, "cudaRuntimeGetVersion"));
  int version = 0;
  const bool known = get_version != nullptr && get_version(&version) == 0;
  ::dlclose(library);
  return known && version >= kCuda12;
}

/// Whether the driver counts GPUs as the runtime does: then what one says of them the other says, too.
bool counts_alike(void* driver) {
  const auto count = reinterpret_cast<int (*)(int*)>(::dlsym(driver, "cuDeviceGetCount"));
  const auto get = reinterpret_cast<int (*)(int*, int)>(::dlsym(driver, "cuDeviceGet"));
  int gpus = 0;
  if (count == nullptr || get == nullptr || count(&gpus) != 0) return false;
  for (int gpu = 0; gpu < gpus; ++gpu) {
    int device = -1;
    if (get(&device, gpu) != 0 || device != gpu) return false;
  }
  return gpus > 0;
}

/// From here on the driver is asked, if that gives the same answers.
void learn_from(void* driver) {
  const auto get_device = reinterpret_cast<GetDevice*>(::dlsym(driver, "cuCtxGetDevice"));
  get_context = reinterpret_cast<GetContext*>(::dlsym(driver, "cuCtxGetCurrent"));
  if (get_device == nullptr || get_context == nullptr || !counts_alike(driver)) return;
  if (sets_context_at_once(ask_runtime.load(std::memory_order_acquire)))
    ask_driver.store(get_device, std::memory_order_release);
}

void meet_driver() {
  static std::mutex& mutex = *new std::mutex;
  static std::atomic<bool> met = false;
  if (met.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(mutex);
  if (met.load(std::memory_order_relaxed)) return;
  void* const driver = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  if (driver == nullptr) return;  // the runtime loads it when it has to
  // The handle is kept for good: functions of the driver are called from here on, and it calls ours.
  make_locks_patient(driver);
  learn_from(driver);
  met.store(true, std::memory_order_release);
}

/// Whether the thread has had a context. To ask without one for its device would be an error that debuggers report.
bool has_had_context() {
  thread_local bool had = false;
  void* context = nullptr;
  if (!had) had = get_context(&context) == 0 && context != nullptr;
  return had;
}

int seam_get_device(int* device) {
  // The driver knows of the thread's context alone. Without one, it is the runtime that knows what will be used.
  GetDevice* const driver = ask_driver.load(std::memory_order_acquire);
  if (driver != nullptr && device != nullptr && has_had_context() && driver(device) == 0) return 0;
  const int status = ask_runtime.load(std::memory_order_acquire)(device);
  if (driver == nullptr && status == 0) meet_driver();
  return status;
}

/// False: it is that of another copy of the runtime.
bool use_get_device(void* address) {
  GetDevice* known = nullptr;
  auto* const found = reinterpret_cast<GetDevice*>(address);
  return ask_runtime.compare_exchange_strong(known, found) || known == found;
}

template <std::size_t Library>
int seam_create(void** handle) {
  return memory_of(__builtin_return_address(0)).create(handles[Library], handle);
}

template <std::size_t Library>
int seam_destroy(void* handle) {
  return memory_of(__builtin_return_address(0)).destroy(handles[Library], handle);
}

/// Sets `function` to what the library of `address` calls `name`; false if there is no such thing.
template <typename Function>
bool find_beside(void* address, const char* name, Function*& function) {
  Dl_info info;
  if (::dladdr(address, &info) == 0) return false;
  void* const library = ::dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return false;
  function = reinterpret_cast<Function*>(::dlsym(library, name));
  ::dlclose(library);
  return function != nullptr;
}

bool use_runtime_of(void* address) {
  const std::lock_guard lock(found_mutex);
  DeviceMemory::Runtime found{};
  if (!find_beside(address, "cudaMalloc", found.allocate) || !find_beside(address, "cudaFree", found.release) ||
      !find_beside(address, "cudaGetLastError", found.take_error)) {
    return false;
  }
  if (runtime.allocate == nullptr) runtime = found;
  return runtime.allocate == found.allocate;
}

bool use_handles_of(void* address, const Names& names, DeviceMemory::Handles& used) {
  const std::lock_guard lock(found_mutex);
  DeviceMemory::Handles found{};
  if (!find_beside(address, names.create.data(), found.create) || !find_beside(address, names.destroy, found.destroy)) {
    return false;
  }
  if (used.create == nullptr) used = found;
  return used.create == found.create;
}

template <std::size_t... Library>
void* seam_of_handles(std::string_view name, void* address, std::index_sequence<Library...>) {
  void* bound = address;
  const auto look = [&](const Names& names, DeviceMemory::Handles& used, auto* create, auto* destroy) {
    const bool creates = name == names.create;
    if ((creates || name == names.destroy) && use_handles_of(address, names, used))
      bound = creates ? reinterpret_cast<void*>(create) : reinterpret_cast<void*>(destroy);
  };
  (look(kLibraries[Library], handles[Library], seam_create<Library>, seam_destroy<Library>), ...);
  return bound;
}

}  // namespace

void* cuda_seam(std::string_view name, void* address) {
  if (!name.starts_with("cu")) return address;
  if (name == "cudaMalloc" || name == "cudaFree") {
    if (!use_runtime_of(address)) return address;
    return name == "cudaMalloc" ? reinterpret_cast<void*>(seam_malloc) : reinterpret_cast<void*>(seam_free);
  }
  if (name == "cudaGetDevice") return use_get_device(address) ? reinterpret_cast<void*>(seam_get_device) : address;
  return seam_of_handles(name, address, std::make_index_sequence<kLibraries.size()>{});
}

}  // namespace multipy::elf

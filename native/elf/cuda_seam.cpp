#include "elf/cuda_seam.h"

#include <dlfcn.h>
#include <link.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/device_memory.h"
#include "base/graph_captures.h"
#include "base/library_counts.h"
#include "base/process_lock.h"
#include "elf/namespace.h"
#include "elf/patient_locks.h"
#include "elf/rebinding.h"

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
ProcessLock<std::mutex>& found_mutex = *new ProcessLock<std::mutex>(ForkOrder::cuda_functions);
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

int seam_host_alloc(void** pointer, std::size_t size, unsigned flags) {
  return memory_of(__builtin_return_address(0)).pin(pointer, size, flags);
}

int seam_malloc_host(void** pointer, std::size_t size) {
  return memory_of(__builtin_return_address(0)).pin(pointer, size, 0);
}

int seam_free_host(void* pointer) { return memory_of(__builtin_return_address(0)).unpin(pointer); }

using BeginCapture = int(void* stream, int mode);
using BeginCaptureToGraph = int(void* stream, void* graph, const void* dependencies, const void* data,
                                std::size_t count, int mode);
using EndCapture = int(void* stream, void** graph);
struct {
  std::atomic<BeginCapture*> begin = nullptr;
  std::atomic<BeginCaptureToGraph*> begin_to_graph = nullptr;
  std::atomic<EndCapture*> end = nullptr;
} captures;

int seam_begin_capture(void* stream, int mode) {
  return GraphCaptures::begin([&] { return captures.begin.load()(stream, mode); });
}

int seam_begin_capture_to_graph(void* stream, void* graph, const void* dependencies, const void* data,
                                std::size_t count, int mode) {
  return GraphCaptures::begin(
      [&] { return captures.begin_to_graph.load()(stream, graph, dependencies, data, count, mode); });
}

int seam_end_capture(void* stream, void** graph) {
  const int status = captures.end.load()(stream, graph);
  GraphCaptures::end();
  return status;
}

/// Notes the runtime's function, and returns ours; null where another copy of the runtime is known already.
template <typename Function>
void* counted(std::atomic<Function*>& real, void* address, Function* ours) {
  Function* known = nullptr;
  auto* const found = reinterpret_cast<Function*>(address);
  return real.compare_exchange_strong(known, found) || known == found ? reinterpret_cast<void*>(ours) : nullptr;
}

/// What a reference to `name`, which the runtime has at `address`, is to be bound to; null: it stays as it is.
void* capture_seam(std::string_view name, void* address) {
  if (name == "cudaStreamBeginCapture") return counted(captures.begin, address, seam_begin_capture);
  if (name == "cudaStreamBeginCaptureToGraph")
    return counted(captures.begin_to_graph, address, seam_begin_capture_to_graph);
  if (name == "cudaStreamEndCapture") return counted(captures.end, address, seam_end_capture);
  return nullptr;
}

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
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::cuda_functions);
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
      !find_beside(address, "cudaGetLastError", found.take_error) ||
      !find_beside(address, "cudaHostAlloc", found.pin) || !find_beside(address, "cudaFreeHost", found.unpin)) {
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
  static const std::array<std::pair<std::string_view, void*>, 5> kMemoryFunctions{
      {{"cudaMalloc", reinterpret_cast<void*>(seam_malloc)},
       {"cudaFree", reinterpret_cast<void*>(seam_free)},
       {"cudaHostAlloc", reinterpret_cast<void*>(seam_host_alloc)},
       {"cudaMallocHost", reinterpret_cast<void*>(seam_malloc_host)},
       {"cudaFreeHost", reinterpret_cast<void*>(seam_free_host)}}};
  if (!name.starts_with("cu")) return address;
  for (const auto& [function, replacement] : kMemoryFunctions) {
    if (name == function) return use_runtime_of(address) ? replacement : address;
  }
  if (void* const counting = capture_seam(name, address)) {
    count_captures_of_host();
    return counting;
  }
  if (name == "cudaGetDevice") return use_get_device(address) ? reinterpret_cast<void*>(seam_get_device) : address;
  return seam_of_handles(name, address, std::make_index_sequence<kLibraries.size()>{});
}

void count_captures_of_host() {
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::cuda_functions);
  static auto& known = *new std::set<std::uintptr_t>;  // where the libraries lie
  static LibraryCounts looked_at;
  const std::lock_guard lock(mutex);
  const auto counts = LibraryCounts::now();
  if (counts == looked_at) return;
  if (counts.unloaded != looked_at.unloaded) known.clear();  // another may lie in the same place
  looked_at = counts;
  std::vector<std::pair<std::uintptr_t, std::string>> libraries;
  const auto list = [](dl_phdr_info* info, std::size_t, void* out) {
    if (info->dlpi_name != nullptr && info->dlpi_name[0] == '/')
      static_cast<decltype(libraries)*>(out)->emplace_back(info->dlpi_addr, info->dlpi_name);
    return 0;
  };
  ::dl_iterate_phdr(list, &libraries);
  for (const auto& [base, name] : libraries) {
    if (!known.insert(base).second || image_at(reinterpret_cast<void*>(base)) != nullptr) continue;
    void* const library = ::dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    link_map* map = nullptr;
    if (library == nullptr) continue;
    if (::dlinfo(library, RTLD_DI_LINKMAP, &map) == 0) {
      rebind(*map, [&](std::string_view reference) -> std::uintptr_t {
        if (!reference.starts_with("cudaStream")) return 0;
        void* const address = ::dlsym(library, std::string(reference).c_str());
        return address == nullptr ? 0 : reinterpret_cast<std::uintptr_t>(capture_seam(reference, address));
      });
    }
    ::dlclose(library);
  }
}

}  // namespace multipy::elf

#include "elf/shared_calls.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/library_counts.h"
#include "base/process_lock.h"
#include "elf/rebinding.h"
#include "elf/seam.h"

namespace multipy::elf {

namespace {

/// What is below the seam, or only ever of the host.
bool is_left_alone(const std::string& path) {
  static constexpr std::array<std::string_view, 13> kPrefixes{
      "ld-linux", "ld.so",   "libc.so", "libpthread", "libdl.so",   "librt.so", "libm.so",
      "linux-",   "libasan", "libtsan", "libubsan",   "libmultipy", "libpython"};
  const std::string_view name = std::string_view(path).substr(path.rfind('/') + 1);
  return name.empty() || std::any_of(kPrefixes.begin(), kPrefixes.end(),
                                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

link_map* map_of(void* handle) {
  link_map* map = nullptr;
  return ::dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 ? map : nullptr;
}

/// The libraries that `map` needs, all loaded by now.
std::vector<link_map*> needs_of(const link_map& map) {
  const char* strings = nullptr;
  for (const auto* entry = map.l_ld; entry->d_tag != DT_NULL; ++entry) {
    const auto value = entry->d_un.d_ptr;
    if (entry->d_tag == DT_STRTAB)
      strings = reinterpret_cast<const char*>(value < map.l_addr ? map.l_addr + value : value);
  }
  std::vector<link_map*> needs;
  for (const auto* entry = map.l_ld; strings != nullptr && entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag != DT_NEEDED) continue;
    void* handle = ::dlopen(strings + entry->d_un.d_val, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == nullptr) continue;
    if (link_map* need = map_of(handle)) needs.push_back(need);
    ::dlclose(handle);
  }
  return needs;
}

}  // namespace

void answer_for_interpreters(void* handle) {
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::bindings_of_libraries);
  // Those that are done, as long as glibc has unloaded nothing: another library may then lie in the same place.
  static auto& done = *new std::set<const link_map*>();
  static auto unloaded_then = LibraryCounts::now().unloaded;
  const std::lock_guard lock(mutex);
  if (const auto unloaded = LibraryCounts::now().unloaded; unloaded != unloaded_then) {
    done.clear();
    unloaded_then = unloaded;
  }
  std::vector<link_map*> maps{map_of(handle)};
  for (std::size_t i = 0; i < maps.size(); ++i) {
    if (maps[i] == nullptr || is_left_alone(maps[i]->l_name)) continue;
    if (!done.insert(maps[i]).second) continue;
    rebind(*maps[i], [](std::string_view name) { return reinterpret_cast<std::uintptr_t>(shared_seam_symbol(name)); });
    const auto needs = needs_of(*maps[i]);
    maps.insert(maps.end(), needs.begin(), needs.end());
  }
}

}  // namespace multipy::elf

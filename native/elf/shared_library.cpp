#include "elf/shared_library.h"

#include <dlfcn.h>
#include <link.h>

#include "base/error.h"

namespace multipy::elf {

void* open_shared(const std::string& name, const std::string& path, const std::string& needed_by) {
  // By name first: a library of this soname that the process has already satisfies the need, as in ld.so.
  if (name.find('/') == std::string::npos) {
    if (void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_NOLOAD)) return handle;
  }
  if (void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
  const char* reason = ::dlerror();
  throw ImageError(needed_by, std::string("needs ") + name + ", which does not load: " + (reason ? reason : "unknown"));
}

void* find_shared(void* handle, const SymbolName& symbol) {
  const std::string name(symbol.name);
  void* scope = handle == nullptr ? RTLD_DEFAULT : handle;
  if (!symbol.version.empty()) {
    if (void* address = ::dlvsym(scope, name.c_str(), std::string(symbol.version).c_str())) return address;
  }
  return ::dlsym(scope, name.c_str());
}

std::string path_of(void* handle) {
  link_map* map = nullptr;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return {};
  return map->l_name;
}

std::optional<SharedTls> find_shared_tls(void* handle, const SymbolName& symbol) {
  link_map* map = nullptr;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0) return std::nullopt;
  // dlsym answers with this thread's copy; which library it comes from is found by asking each that has TLS.
  for (; map != nullptr && map->l_prev != nullptr; map = map->l_prev) {
  }
  void* wanted = find_shared(handle, symbol);
  if (wanted == nullptr) return std::nullopt;
  for (; map != nullptr; map = map->l_next) {
    if (map->l_name == nullptr || map->l_name[0] != '/') continue;
    std::size_t module = 0;
    void* block = nullptr;
    void* library = ::dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) continue;
    const bool has_tls = ::dlinfo(library, RTLD_DI_TLS_MODID, &module) == 0 && module != 0 &&
                         ::dlinfo(library, RTLD_DI_TLS_DATA, &block) == 0 && block != nullptr;
    ::dlclose(library);
    if (!has_tls) continue;
    const auto file = File::open(map->l_name);
    const auto distance = static_cast<char*>(wanted) - static_cast<char*>(block);
    if (distance >= 0 && static_cast<std::uint64_t>(distance) < file->tls_size()) {
      return SharedTls{module, static_cast<std::uint64_t>(distance), file->dynamic_value(DT_FLAGS).value_or(0) & DF_STATIC_TLS ? true : false};
    }
  }
  return std::nullopt;
}

}  // namespace multipy::elf

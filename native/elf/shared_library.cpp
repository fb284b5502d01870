#include "elf/shared_library.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>

#include "base/error.h"

namespace multipy::elf {

namespace {

/// A library of this name that the process has already: it satisfies the need, as in ld.so.
void* already_open(const std::string& name) {
  return name.find('/') == std::string::npos ? ::dlopen(name.c_str(), RTLD_NOW | RTLD_NOLOAD) : nullptr;
}

/// Libraries may need each other in a circle.
bool requested_already(const std::string& path, const Requesters& chain) {
  const FileId id = File::open(path)->id();
  return std::any_of(chain.begin(), chain.end(), [&](const File* file) { return file->id() == id; });
}

}  // namespace

void* open_shared(const std::string& name, const std::string& path, const Requesters& requesters) {
  if (void* handle = already_open(name)) return handle;
  const auto file = File::open(path);
  Requesters chain{file.get()};
  chain.insert(chain.end(), requesters.begin(), requesters.end());
  for (const auto& need : file->needed()) {
    const auto found = find_library(need, chain);
    // What is not found here is for glibc to find, or to complain of.
    if (found && !requested_already(*found, chain)) open_shared(need, *found, chain);
  }
  if (void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
  const char* reason = ::dlerror();
  throw ImageError(requesters.front()->path(), std::string("needs ") + name + ", which does not load: " + (reason ? reason : "unknown"));
}

namespace {

/// Whether the definition of `name` at `address` carries no version. ld.so binds a versioned reference to such a one
/// as well, which dlvsym does not; a definition of another version is another function.
bool is_unversioned(const void* address, const std::string& name) {
  Dl_info info{};
  link_map* map = nullptr;
  if (::dladdr1(address, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 || map == nullptr) return true;
  if (map->l_name == nullptr || map->l_name[0] != '/') return true;  // the program itself, or the vDSO
  try {
    const auto symbol = File::open(map->l_name)->find(SymbolName(name));
    return !symbol || symbol->version.empty();
  } catch (const ImageError&) {
    return true;  // replaced on disk since; what is mapped can only be taken as it is
  }
}

}  // namespace

void* find_shared(void* handle, const SymbolName& symbol) {
  const std::string name(symbol.name);
  void* scope = handle == nullptr ? RTLD_DEFAULT : handle;
  if (symbol.version.empty()) return ::dlsym(scope, name.c_str());
  if (void* address = ::dlvsym(scope, name.c_str(), std::string(symbol.version).c_str())) return address;
  void* address = ::dlsym(scope, name.c_str());
  return address != nullptr && is_unversioned(address, name) ? address : nullptr;
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

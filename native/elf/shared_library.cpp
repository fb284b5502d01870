#include "elf/shared_library.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "base/error.h"
#include "base/process_lock.h"
#include "elf/arch.h"
#include "elf/shared_calls.h"

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
  if (void* handle = already_open(name)) {
    answer_for_interpreters(handle);
    return handle;
  }
  const auto file = File::open(path);
  Requesters chain{file.get()};
  chain.insert(chain.end(), requesters.begin(), requesters.end());
  for (const auto& need : file->needed()) {
    const auto found = find_library(need, chain);
    // What is not found here is for glibc to find, or to complain of.
    if (found && !requested_already(*found, chain)) open_shared(need, *found, chain);
  }
  if (void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    answer_for_interpreters(handle);
    return handle;
  }
  const char* reason = ::dlerror();
  throw ImageError(requesters.front()->path(),
                   std::string("needs ") + name + ", which does not load: " + (reason ? reason : "unknown"));
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

void* find_global(const SymbolName& symbol) {
  // What the global scope defines it goes on defining: every image of every interpreter asks for the same names.
  static auto& mutex = *new ProcessLock<std::shared_mutex>(ForkOrder::global_symbols);
  static auto& known = *new std::unordered_map<std::string, void*>();
  std::string key(symbol.name);
  key.append("@").append(symbol.version);
  {
    const std::shared_lock lock(mutex);
    if (const auto found = known.find(key); found != known.end()) return found->second;
  }
  void* address = find_shared(nullptr, symbol);
  if (address != nullptr) {
    const std::unique_lock lock(mutex);
    known.emplace(std::move(key), address);
  }
  return address;
}

void* find_shared(void* handle, const SymbolName& symbol) {
  const std::string name(symbol.name);
  void* scope = handle == nullptr ? RTLD_DEFAULT : handle;
  if (symbol.version.empty()) return ::dlsym(scope, name.c_str());
  void* plain = ::dlsym(scope, name.c_str());
  void* versioned = ::dlvsym(scope, name.c_str(), std::string(symbol.version).c_str());
  if (plain == nullptr || plain == versioned) return versioned;
  // A definition without any version satisfies every reference: so preloaded allocators interpose malloc and free.
  return is_unversioned(plain, name) ? plain : versioned;
}

std::string path_of(void* handle) {
  link_map* map = nullptr;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return {};
  return map->l_name;
}

Extent extent_of(void* handle) {
  Extent extent;
  link_map* map = nullptr;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return extent;
  const auto visit = [](dl_phdr_info* info, std::size_t, void* argument) {
    auto& found = *static_cast<Extent*>(argument);
    if (info->dlpi_addr != found.base) return 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const ElfW(Phdr) & header = info->dlpi_phdr[i];
      if (header.p_type == PT_LOAD) found.size = std::max<std::size_t>(found.size, header.p_vaddr + header.p_memsz);
    }
    return 1;
  };
  extent.base = map->l_addr;
  ::dl_iterate_phdr(visit, &extent);
  return extent;
}

namespace {

/// How large the static TLS block is; 0 if glibc does not tell.
std::size_t static_tls_size() {
  using Info = void (*)(std::size_t*, std::size_t*);
  static const auto info = reinterpret_cast<Info>(::dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info"));
  std::size_t size = 0;
  std::size_t alignment = 0;
  if (info != nullptr) info(&size, &alignment);
  return size;
}

/// Libraries the process started with need not say that their thread-locals lie in the static TLS block.
bool lies_in_static_block(const char* block, std::size_t size) {
  const auto* thread = static_cast<const char*>(__builtin_thread_pointer());
  const auto distance = kStaticTlsBelowThread ? thread - block : block - thread;
  return distance >= 0 && static_cast<std::size_t>(distance) <= size;
}

}  // namespace

std::optional<SharedTls> find_shared_tls(void* handle, const SymbolName& symbol) {
  // dlsym answers with this thread's copy; which library it is of is found by asking each for its block.
  struct Search {
    const char* wanted;
    std::size_t static_size;
    std::optional<SharedTls> found;
  } search{static_cast<const char*>(find_shared(handle, symbol)), 0, std::nullopt};
  if (search.wanted == nullptr) return std::nullopt;
  // Before the walk: glibc walks under a lock that it takes after that of dlsym.
  search.static_size = static_tls_size();
  const auto visit = [](dl_phdr_info* info, std::size_t, void* argument) {
    auto& request = *static_cast<Search*>(argument);
    if (info->dlpi_tls_modid == 0 || info->dlpi_tls_data == nullptr) return 0;
    const auto* block = static_cast<const char*>(info->dlpi_tls_data);
    std::uint64_t size = 0;
    bool is_static = false;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const ElfW(Phdr) & header = info->dlpi_phdr[i];
      if (header.p_type == PT_TLS) size = header.p_memsz;
      if (header.p_type != PT_DYNAMIC) continue;
      const auto* entry = reinterpret_cast<const ElfW(Dyn)*>(info->dlpi_addr + header.p_vaddr);
      for (; entry->d_tag != DT_NULL; ++entry) {
        if (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_STATIC_TLS)) is_static = true;
      }
    }
    is_static = is_static || lies_in_static_block(block, request.static_size);
    const auto distance = request.wanted - block;
    if (distance < 0 || static_cast<std::uint64_t>(distance) >= size) return 0;
    request.found = SharedTls{info->dlpi_tls_modid, static_cast<std::uint64_t>(distance), is_static};
    return 1;
  };
  ::dl_iterate_phdr(visit, &search);
  return search.found;
}

}  // namespace multipy::elf

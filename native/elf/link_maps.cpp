#include "elf/link_maps.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "elf/file.h"
#include "elf/tiny_library.h"

namespace multipy::elf {

namespace {

/// Names the image in glibc's list. The former name stays: others may be looking at it.
void rename(link_map& map, const std::string& name) {
  if (char* copy = ::strdup(name.c_str())) std::atomic_ref(map.l_name).store(copy, std::memory_order_release);
}

/// Replaces the mapped file by a copy, so that nothing of the memfd stays.
void give_back(const link_map& map, const TinyLibrary& anchor) {
  const auto size = static_cast<std::size_t>(::getpagesize());
  static_assert(sizeof anchor <= 4096);
  void* page = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return;
  void* const loaded = reinterpret_cast<void*>(map.l_addr);
  std::memcpy(page, loaded, sizeof anchor);  // with what glibc has written
  if (::mremap(page, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, loaded) == MAP_FAILED) ::munmap(page, size);
}

/// Opens a namespace that nobody else has; LM_ID_BASE: there is none to be had. A namespace that becomes empty is gone,
/// and images that fail are closed again; the anchor stays open for ever.
Lmid_t open_namespace() {
  const UniqueFd memfd = create_memfd("multipy-anchor");
  const TinyLibrary anchor = make_tiny_library();
  fill(memfd, &anchor, sizeof anchor);
  void* handle = ::dlmopen(LM_ID_NEWLM, unique_path(memfd.get()).c_str(), RTLD_NOW | RTLD_LOCAL);
  Lmid_t id = LM_ID_BASE;
  if (handle == nullptr || ::dlinfo(handle, RTLD_DI_LMID, &id) != 0) {
    ::dlerror();
    return LM_ID_BASE;
  }
  auto& map = *static_cast<link_map*>(handle);
  give_back(map, anchor);
  rename(map, "");  // debuggers pass over what has no name
  return id;
}

/// Whether the unwinder that `function` is of sees the libraries of every namespace.
bool sees_all_namespaces(const void* function) {
  Dl_info info{};
  link_map* map = nullptr;
  if (::dladdr1(function, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 || map == nullptr) return false;
  std::array<char, PATH_MAX> program{};
  const char* path = map->l_name[0] != '\0' ? map->l_name : ::realpath("/proc/self/exe", program.data());
  if (path == nullptr) return false;
  try {
    const auto file = File::open(path);
    for (std::uint32_t i = 1; i < file->symbol_count(); ++i) {
      const Symbol symbol = file->symbol(i);
      if (!symbol.defined && symbol.name == "_dl_find_object") return true;
    }
  } catch (const ImageError&) {
    // A program at a fixed address, or replaced on disk since: nothing is known of it.
  } catch (const OutOfBounds&) {
  }
  return false;
}

bool unwinders_see_all_namespaces() {
  const void* const raise = ::dlsym(RTLD_DEFAULT, "_Unwind_RaiseException");
  const void* const find = ::dlsym(RTLD_DEFAULT, "_Unwind_Find_FDE");  // an unwinder's own, but it can be replaced
  void* const of_glibc = ::dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
  const void* const forced = of_glibc == nullptr ? raise : ::dlsym(of_glibc, "_Unwind_ForcedUnwind");
  ::dlerror();
  const auto all = {raise, find == nullptr ? raise : find, forced};
  return std::all_of(all.begin(), all.end(), sees_all_namespaces);
}

}  // namespace

std::string unique_path(int fd) {
  static std::atomic<std::uint64_t> serial{0};
  // The number that this /proc has for the process; after a fork it is another.
  std::array<char, 32> number{};
  if (::readlink("/proc/self", number.data(), number.size() - 1) <= 0) std::strcpy(number.data(), "self");
  std::string path = std::string("/proc/") + number.data() + "/fd/";
  for (std::uint64_t bits = ++serial; bits != 0; bits >>= 1) path += (bits & 1) != 0 ? "./" : "/";
  return path + std::to_string(fd);
}

UniqueFd create_memfd(const std::string& name) {
  constexpr unsigned kExecutable = 0x10;  // MFD_EXEC, which kernels before 6.3 refuse
  int fd = ::memfd_create(name.c_str(), MFD_CLOEXEC | kExecutable);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(name.c_str(), MFD_CLOEXEC);
  if (fd < 0) throw Error(std::string("memfd_create: ") + std::strerror(errno));
  return UniqueFd(fd);
}

void fill(const UniqueFd& memfd, const void* bytes, std::size_t count, std::uint64_t offset) {
  const ssize_t written = ::pwrite(memfd.get(), bytes, count, static_cast<off_t>(offset));
  if (written != static_cast<ssize_t>(count))
    throw Error(std::string("a file in memory: ") + (written < 0 ? std::strerror(errno) : "no room"));
}

void* open_image(const UniqueFd& memfd) {
  static const Lmid_t where = unwinders_see_all_namespaces() ? open_namespace() : LM_ID_BASE;
  const std::string path = unique_path(memfd.get());
  // Sanitizers know of dlopen alone.
  return where == LM_ID_BASE ? ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)
                             : ::dlmopen(where, path.c_str(), RTLD_NOW | RTLD_LOCAL);
}

void name_for_debuggers(link_map& map, const std::string& path) {
  const auto slash = path.rfind('/');
  // Spelled so that nobody who opens the file itself is given the image.
  if (slash != std::string::npos) rename(map, path.substr(0, slash) + "//" + path.substr(slash));
}

}  // namespace multipy::elf

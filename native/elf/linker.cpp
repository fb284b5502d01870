#include "elf/linker.h"

#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <memory>
#include <string_view>

#include "elf/link_maps.h"
#include "elf/tiny_library.h"

namespace multipy::elf {

namespace {

// Below what is no folder, so that nobody else has these on a search path.
constexpr std::string_view kLib = "/dev/null/lib/";
constexpr std::string_view kPlatform = "/dev/null/platform/";
constexpr std::string_view kSearchPath = "/dev/null/lib/$LIB:/dev/null/platform/$PLATFORM";

/// Every folder that glibc searches for what `library` needs, in order.
std::vector<std::string> search_path_of(void* library) {
  Dl_serinfo head;
  if (::dlinfo(library, RTLD_DI_SERINFOSIZE, &head) != 0) return {};
  const std::unique_ptr<char[]> memory(new char[head.dls_size]);
  auto* info = new (memory.get()) Dl_serinfo(head);
  if (::dlinfo(library, RTLD_DI_SERINFO, info) != 0) return {};
  std::vector<std::string> folders;
  for (unsigned i = 0; i < info->dls_cnt; ++i) folders.emplace_back(info->dls_serpath[i].dls_name);
  return folders;
}

/// The program's DT_RPATH, which a DT_RUNPATH puts out of force.
std::string rpath_of(const link_map& program) {
  const char* strings = nullptr;
  const ElfW(Dyn)* rpath = nullptr;
  for (const ElfW(Dyn)* entry = program.l_ld; entry != nullptr && entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_RUNPATH) return {};
    if (entry->d_tag == DT_RPATH) rpath = entry;
    // glibc has made addresses of the offsets of a program that lies anywhere, where it could write.
    if (entry->d_tag == DT_STRTAB) {
      const auto address = entry->d_un.d_ptr;
      strings = reinterpret_cast<const char*>(address < program.l_addr ? program.l_addr + address : address);
    }
  }
  return rpath == nullptr || strings == nullptr ? std::string() : std::string(strings + rpath->d_un.d_val);
}

void ask_about_program(Linker& answer) {
  void* handle = ::dlopen(nullptr, RTLD_NOW);
  if (handle == nullptr) return;
  link_map* program = nullptr;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &program) == 0) answer.program_rpath = rpath_of(*program);
  ::dlclose(handle);
  // dlinfo tells a program's $ORIGIN only where glibc needed it itself, and crashes elsewhere.
  std::array<char, PATH_MAX> path{};
  if (::readlink("/proc/self/exe", path.data(), path.size() - 1) < 0) return;
  const std::string_view text(path.data());
  answer.program_folder = text.substr(0, std::max<std::size_t>(text.rfind('/'), 1));
}

Linker ask() {
  Linker answer;
  ask_about_program(answer);
  const UniqueFd memfd = create_memfd("multipy-question");
  const TinyLibrary question = make_tiny_library(kSearchPath);
  fill(memfd, &question, sizeof question);
  void* handle = ::dlopen(unique_path(memfd.get()).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    ::dlerror();
    return answer;
  }
  for (auto& folder : search_path_of(handle)) {
    if (folder.starts_with(kLib)) {
      answer.lib = folder.substr(kLib.size());
    } else if (folder.starts_with(kPlatform)) {
      answer.platform = folder.substr(kPlatform.size());
    } else if (!answer.lib.empty()) {  // what comes before is LD_LIBRARY_PATH's
      answer.default_folders.push_back(std::move(folder));
    }
  }
  ::dlclose(handle);
  return answer;
}

}  // namespace

const Linker& linker() {
  // Threads that ask at once ask twice: who waited here under glibc's lock could wait for one that waits for the lock.
  static std::atomic<const Linker*> known{nullptr};
  const Linker* found = known.load(std::memory_order_acquire);
  if (found != nullptr) return *found;
  auto mine = std::make_unique<const Linker>(ask());
  return known.compare_exchange_strong(found, mine.get()) ? *mine.release() : *found;
}

}  // namespace multipy::elf

#include "elf/search.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "base/checked_span.h"
#include "base/unique_fd.h"
#include "elf/arch.h"
#include "elf/linker.h"

namespace multipy::elf {

namespace {

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string expand(std::string_view text, const std::string& origin) {
  struct Token {
    std::string_view name;
    std::string_view value;
  };
  if (text.find('$') == std::string_view::npos) return std::string(text);
  const std::array<Token, 3> tokens{{{"ORIGIN", origin}, {"LIB", linker().lib}, {"PLATFORM", linker().platform}}};
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    bool replaced = false;
    if (text[i] == '$') {
      const bool braced = i + 1 < text.size() && text[i + 1] == '{';
      const std::string_view rest = text.substr(i + (braced ? 2 : 1));
      for (const auto& token : tokens) {
        if (!rest.starts_with(token.name) || token.value.empty()) continue;
        const std::size_t end = token.name.size();
        if (braced && (end >= rest.size() || rest[end] != '}')) continue;
        out += token.value;
        i += (braced ? 3 : 1) + end;
        replaced = true;
        break;
      }
    }
    if (!replaced) out += text[i++];
  }
  return out;
}

bool is_candidate(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a pipe must not make us wait
  ElfW(Ehdr) header;
  if (!fd || ::read(fd.get(), &header, sizeof header) != static_cast<ssize_t>(sizeof header)) return false;
  return std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_ident[EI_CLASS] == ELFCLASS64 &&
         header.e_machine == kMachine;
}

std::optional<std::string> in_folders(std::string_view folders, const std::string& origin, const std::string& name,
                                      std::string_view separators = ":") {
  while (!folders.empty()) {
    const auto end = folders.find_first_of(separators);
    const std::string_view folder = folders.substr(0, end);
    folders = end == std::string_view::npos ? std::string_view() : folders.substr(end + 1);
    std::string path = folder.empty() ? std::string(".") : expand(folder, origin);
    path += '/';
    path += name;
    if (is_candidate(path)) return path;
  }
  return std::nullopt;
}

/// The contents of a file; as much as can be read of it.
std::string read_file(const char* path) {
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0 || status.st_size <= 0) return {};
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const ssize_t count = ::read(fd.get(), text.data(), text.size());
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text;
}

/// The libraries of this processor that ldconfig knows, name and path; of two of a name the first counts.
std::vector<std::pair<std::string, std::string>> read_cache() {
  std::vector<std::pair<std::string, std::string>> found;
  const std::string text = read_file("/etc/ld.so.cache");
  static constexpr std::string_view kMagic = "glibc-ld.so.cache1.1";
  // The current format may follow the one of libc5; both are aligned to 8 bytes.
  const auto start = text.find(kMagic);
  if (start == std::string::npos) return found;
  struct Entry {
    std::int32_t flags;
    std::uint32_t key, value, os_version;
    std::uint64_t hwcap;
  };
  constexpr std::size_t kHeader = 48;
  try {
    const CheckedSpan cache(text.data() + start, text.size() - start);
    const auto count = cache.read<std::uint32_t>(kMagic.size());
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto entry = cache.read<Entry>(kHeader + std::uint64_t{i} * sizeof(Entry));
      if (entry.flags != kCacheFlags || entry.hwcap != 0) continue;
      found.emplace_back(cache.c_string(entry.key), cache.c_string(entry.value));
    }
  } catch (const OutOfBounds&) {
    // A damaged cache is as good as none: the default folders remain.
  }
  return found;
}

const std::string& library_path_at_start() {
  // ld.so reads LD_LIBRARY_PATH once, when the process starts; so does this, when the core is loaded.
  static const std::string& value = *new std::string([] {
    const char* text = ::secure_getenv("LD_LIBRARY_PATH");
    return std::string(text == nullptr ? "" : text);
  }());
  return value;
}
[[gnu::constructor]] void remember_library_path() { library_path_at_start(); }

}  // namespace

std::optional<std::string> find_library(const std::string& name, const Requesters& requesters) {
  const std::string origin = requesters.empty() ? "." : folder_of(requesters.front()->path());
  if (name.find('/') != std::string::npos) {
    std::string path = expand(name, origin);
    if (::access(path.c_str(), F_OK) != 0) return std::nullopt;
    return path;
  }
  if (!requesters.empty() && requesters.front()->runpath().empty()) {
    for (const File* requester : requesters) {
      if (!requester->runpath().empty()) continue;
      if (auto path = in_folders(requester->rpath(), folder_of(requester->path()), name)) return path;
    }
    if (auto path = in_folders(linker().program_rpath, linker().program_folder, name)) return path;
  }
  if (auto path = in_folders(library_path_at_start(), linker().program_folder, name, ":;")) return path;
  if (!requesters.empty()) {
    if (auto path = in_folders(requesters.front()->runpath(), origin, name)) return path;
  }
  static const auto& cache = *new auto(read_cache());
  const auto found = std::find_if(cache.begin(), cache.end(), [&](const auto& entry) { return entry.first == name; });
  if (found != cache.end() && is_candidate(found->second)) return found->second;
  for (const auto& folder : linker().default_folders) {
    if (const std::string path = folder + '/' + name; is_candidate(path)) return path;
  }
  return std::nullopt;
}

}  // namespace multipy::elf

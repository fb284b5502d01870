#include "elf/policy.h"

#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace multipy::elf {

namespace {

/// Parts of glibc: they share private interfaces with the dynamic linker, and the state of the process.
constexpr std::array<const char*, 12> kGlibc{
    "ld-linux*.so*", "ld-2.*.so",    "libc.so.6",   "libm.so.6",      "libpthread.so.0", "libdl.so.2",
    "librt.so.1",    "libutil.so.1", "libanl.so.1", "libresolv.so.2", "libnss_*.so*",    "libthread_db.so.1",
};
/// Of them, what a pattern like "*" names.
constexpr std::array<const char*, 6> kNamesOfGlibc{
    "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"};

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool matches(const char* pattern, const std::string& text) { return ::fnmatch(pattern, text.c_str(), 0) == 0; }

bool any_matches(const std::vector<std::string>& patterns, const std::string& path) {
  const std::string base = base_name(path);
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return matches(pattern.c_str(), pattern.find('/') != std::string::npos ? path : base);
  });
}

bool is_of_glibc(const std::string& base) {
  return std::any_of(kGlibc.begin(), kGlibc.end(), [&](const char* pattern) { return matches(pattern, base); });
}

bool holds_package(const std::string& folder) { return ::access((folder + "/__init__.py").c_str(), F_OK) == 0; }

}  // namespace

Policy Policy::standard() {
  return {
      {
          "libpython3*.so*",
          "libc10.so*",      // keeps one Python per process; the rest of torch follows
          "*openblas*",      // serves one multithreaded call at a time
          "libllvmlite.so",  // its JIT looks the CPython API up at run time
          "libhdf5*",        // guarded by a lock in h5py, one per interpreter
          "libc++.so*",
          "libc++abi.so*",
          "libunwind.so.1*",  // an unwinder finds images only if it is one (link_maps.h)
          // Locks on files, which are an interpreter's own (seam_locks.h).
          "libsqlite3*",
          "liblmdb*",
          // Registries in which a second interpreter's entry is a duplicate, or another's is found.
          "libarrow*",
          "libparquet*",
          "libprotobuf*",
          "libabsl_flags*",
          "libgflags*",
          "libglog*",
          "libgobject-2.0*",
          // Hooks and handlers that point into the interpreter that set them last.
          "libreadline*",
          "libhistory*",
          "libedit*",
          "libxml2*",
          "libxslt*",
          "libexslt*",
          "libavutil*",
          "libgdal*",
          "libglib-2.0*",
          "libgmp*",
          "libxgboost*",
          "lib_lightgbm*",
      },
      {"libmultipy_core.so*"},
      {
          // Runtimes of compilers and of OpenMP, and allocators.
          "libgcc_s*",
          "libstdc++*",
          "libatomic*",
          "libquadmath*",
          "libgomp*",
          "libomp*",
          "libiomp*",
          "libjemalloc*",
          "libtcmalloc*",
          "libmimalloc*",
          // What comes with torch follows from libc10. The rest keeps the state of a GPU.
          "*/torch/lib/*",
          "*/nvidia/*",
          "libcuda*",
          "libcudnn*",
          "libcublas*",
          "libcufft*",
          "libcufile*",
          "libcupti*",
          "libcurand*",
          "libcusolver*",
          "libcusparse*",
          "libcutensor*",
          "libnccl*",
          "libnv*",
          "libamd*",
          "libhip*",
          "libhsa*",
          "libroc*",
          "librccl*",
          "libMIOpen*",
          "libsycl*",
          "libze_*",
          "libur_*",
      },
      {"liblmdb*.so*", "*/lmdb/*.so*"},
  };
}

void Policy::check(std::string_view libpython, std::string_view extension) const {
  const auto refuse_any = [](const std::vector<std::string>& patterns, const std::string& name, const char* why) {
    for (const auto& pattern : patterns) {
      if (any_matches({pattern}, name)) throw std::invalid_argument("\"" + pattern + "\" names " + name + ", " + why);
    }
  };
  for (const char* name : kNamesOfGlibc)
    refuse_any(private_patterns, name, "which a process has only once: it cannot be private");
  for (const std::string_view path : {libpython, extension})
    refuse_any(shared_patterns, base_name(std::string(path)),
               "of which each interpreter needs its own: it cannot be shared");
  refuse_any(shared_patterns, "libc10.so", "which keeps one Python per process: it cannot be shared");
}

Verdict Policy::decide(const std::string& path) const {
  if (is_of_glibc(base_name(path))) return Verdict::by_content;
  if (any_matches(shared_patterns, path)) return Verdict::always_shared;
  if (any_matches(private_patterns, path)) return Verdict::always_private;
  return Verdict::by_content;
}

bool Policy::is_packaged(const std::string& path) const {
  if (any_matches(packaged_shared_patterns, path)) return false;
  if (path.find("/site-packages/") != std::string::npos || path.find("/dist-packages/") != std::string::npos)
    return true;
  std::string folder = path;
  for (int above = 0; above < 3; ++above) {
    const auto slash = folder.rfind('/');
    if (slash == std::string::npos || slash == 0) return false;
    folder.resize(slash);
    if (folder.ends_with(".libs") || holds_package(folder)) return true;
  }
  return false;
}

bool Policy::tells_processes_apart(const std::string& path) const { return any_matches(numbered_patterns, path); }

}  // namespace multipy::elf

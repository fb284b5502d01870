#include "elf/policy.h"

#include <fnmatch.h>

#include <algorithm>

namespace multipy::elf {

namespace {

bool any_matches(const std::vector<std::string>& patterns, const std::string& path) {
  const std::string base = path.substr(path.rfind('/') + 1);
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    const bool whole = pattern.find('/') != std::string::npos;
    return ::fnmatch(pattern.c_str(), whole ? path.c_str() : base.c_str(), 0) == 0;
  });
}

}  // namespace

Policy Policy::standard() {
  return {{"libc10.so*", "libpython3*.so*", "*openblas*", "libllvmlite.so", "libhdf5*", "libc++.so*", "libc++abi.so*",
           "libunwind.so.1*"},
          {"libmultipy_core.so*"}};
}

Verdict Policy::decide(const std::string& path) const {
  if (any_matches(shared_patterns, path)) return Verdict::always_shared;
  if (any_matches(private_patterns, path)) return Verdict::always_private;
  return Verdict::by_content;
}

}  // namespace multipy::elf

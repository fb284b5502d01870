#include "description.h"

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "child.h"
#include "multipy_actors/errors.h"

namespace multipy_actors {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHeading = "multipy_actors description 1";

/// The folder of the Python package, in which this library lies.
fs::path package_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&describe), &info) == 0 || info.dli_fname == nullptr)
    throw StartError("where libmultipy_embed.so lies cannot be told");
  return fs::absolute(info.dli_fname).parent_path();
}

/// "3.11", from the name of the extension module; empty if there is none.
std::string python_version(const fs::path& package) {
  constexpr std::string_view kPrefix = "_native.cpython-3";
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(package, error)) {
    const std::string name = entry.path().filename();
    if (name.compare(0, kPrefix.size(), kPrefix) != 0) continue;
    const auto end = name.find_first_not_of("0123456789", kPrefix.size());
    if (end != std::string::npos && end > kPrefix.size())
      return "3." + name.substr(kPrefix.size(), end - kPrefix.size());
  }
  return {};
}

bool is_executable(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

std::string find_in_path(const std::string& name) {
  const char* variable = std::getenv("PATH");
  std::string_view rest = variable == nullptr ? "" : variable;
  while (!rest.empty()) {
    const std::string_view folder = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
    const fs::path candidate = fs::path(folder.empty() ? "." : folder) / name;
    if (is_executable(candidate)) return fs::absolute(candidate);
  }
  return {};
}

std::string named_python(const std::string& wanted, const std::string& by) {
  const bool is_path = wanted.find('/') != std::string::npos;
  const std::string found = !is_path                ? find_in_path(wanted)
                            : is_executable(wanted) ? fs::absolute(wanted).string()
                                                    : std::string();
  if (found.empty()) throw StartError("there is no executable " + wanted + ", which " + by + " names");
  return found;
}

std::string shown(const ChildResult& result) {
  std::string text = result.messages;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.empty() ? "it said nothing" : text;
}

}  // namespace

std::string find_python(const std::string& wanted) {
  if (!wanted.empty()) return named_python(wanted, "the environment");
  if (const char* variable = std::getenv("MULTIPY_PYTHON"); variable != nullptr && *variable != '\0')
    return named_python(variable, "MULTIPY_PYTHON");
  const fs::path package = package_folder();
  const std::string version = python_version(package);
  std::vector<std::string> names{"python3", "python"};
  if (!version.empty()) names.insert(names.begin(), "python" + version);
  // PREFIX/lib/python3.11/site-packages/multipy_actors
  for (fs::path folder = package; folder.has_relative_path(); folder = folder.parent_path()) {
    if (folder.filename() != "lib" && folder.filename() != "lib64") continue;
    for (const std::string& name : names) {
      const fs::path candidate = folder.parent_path() / "bin" / name;
      if (is_executable(candidate)) return candidate;
    }
    break;
  }
  for (const std::string& name : names) {
    if (std::string found = find_in_path(name); !found.empty()) return found;
  }
  throw StartError("no Python was found: neither around " + package.string() +
                   " nor in PATH; name one with the environment variable MULTIPY_PYTHON");
}

Description describe(const std::string& python, multipy::Clock::time_point deadline) {
  std::error_code error;
  const std::string program = fs::read_symlink("/proc/self/exe", error);
  const auto script = package_folder() / "embedding/describe.py";
  if (!fs::exists(script, error))
    throw StartError(script.string() +
                     " is not there: libmultipy_embed.so must lie in the folder of the Python package");
  const ChildResult result = run_child({python, script, program}, deadline);
  if (!result.in_time) throw StartError(python + " did not describe itself in time: " + shown(result));
  std::string_view rest = result.answer;
  std::vector<std::string> texts;
  for (auto end = rest.find('\0'); end != std::string_view::npos; end = rest.find('\0')) {
    texts.emplace_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  if (texts.size() < 3 || texts.size() % 2 == 0 || texts[0] != kHeading || !rest.empty())
    throw StartError(python + " cannot be what interpreters are made of: " + shown(result));
  Description description{texts[1], texts[2], {}, {}};
  for (std::size_t i = 3; i < texts.size(); i += 2) {
    if (texts[i] == "module_search_paths") {
      description.search_paths.push_back(texts[i + 1]);
    } else {
      description.settings.emplace_back(texts[i], texts[i + 1]);
    }
  }
  return description;
}

}  // namespace multipy_actors

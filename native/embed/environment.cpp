// What the environments that come with the library do; see multipy_actors/environment.h.
#include "multipy_actors/environment.h"

#include <filesystem>
#include <utility>

namespace multipy_actors {

namespace {

std::vector<std::string> absolute(std::vector<std::string> paths) {
  for (std::string& path : paths) path = std::filesystem::absolute(path).lexically_normal();
  return paths;
}

}  // namespace

Environment::Environment(std::string python) : python_(std::move(python)) {}
Environment::~Environment() = default;

std::vector<std::string> Environment::searchPaths(std::vector<std::string> installed) const { return installed; }
void Environment::configureInterpreter(Interpreter&) const {}

NoopEnvironment::~NoopEnvironment() = default;

PathEnvironment::PathEnvironment(std::string path, std::string python)
    : PathEnvironment(std::vector<std::string>{std::move(path)}, std::move(python)) {}
PathEnvironment::PathEnvironment(std::vector<std::string> paths, std::string python)
    : Environment(std::move(python)), paths_(absolute(std::move(paths))) {}
PathEnvironment::~PathEnvironment() = default;

std::vector<std::string> PathEnvironment::searchPaths(std::vector<std::string> installed) const {
  installed.insert(installed.begin(), paths_.begin(), paths_.end());
  return installed;
}

}  // namespace multipy_actors

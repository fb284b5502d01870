// Finds the Python whose copies the interpreters are to be, and asks it what they need.
//
// The executable is run as a child, without a shell, with multipy_actors/embedding/describe.py of the folder in which
// this library lies: so the extension module that interpreters load is always the one that belongs to this library.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/futex.h"

namespace multipy_actors {

struct Description {
  std::string libpython;
  std::string extension;
  std::vector<std::pair<std::string, std::string>> settings;  // without the search paths
  std::vector<std::string> search_paths;
};

/// The executable: `wanted` if it is not empty, else as environment.h says. Throws StartError if there is none.
std::string find_python(const std::string& wanted);
/// Throws StartError, with what the child said, if it fails or is not done by `deadline`.
Description describe(const std::string& python, multipy::Clock::time_point deadline);

}  // namespace multipy_actors

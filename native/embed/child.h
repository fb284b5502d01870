// A child process that is asked one thing.
#pragma once

#include <string>
#include <vector>

#include "base/futex.h"

namespace multipy_actors {

struct ChildResult {
  bool in_time = false;
  int status = 0;        // as waitpid gives it, if in_time
  std::string answer;    // written to descriptor 3
  std::string messages;  // written to descriptors 1 and 2
};

/// Runs `command`, whose first word is a path, with nothing to read; it is killed at `deadline`. Throws StartError if
/// it cannot be run.
ChildResult run_child(const std::vector<std::string>& command, multipy::Clock::time_point deadline);

}  // namespace multipy_actors

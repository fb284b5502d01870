#include "base/graph_captures.h"

#include "base/process_lock.h"

namespace multipy {

std::mutex& GraphCaptures::mutex() {
  static auto& instance = *new ProcessLock<std::mutex>(ForkOrder::graph_captures);
  return instance;
}

int& GraphCaptures::count() {
  static int captures = 0;
  return captures;
}

void GraphCaptures::end() {
  const std::lock_guard lock(mutex());
  // One that began before its library's references were bound was not counted.
  if (count() > 0) --count();
}

}  // namespace multipy

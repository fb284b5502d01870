#include "base/graph_captures.h"

namespace multipy {

std::mutex& GraphCaptures::mutex() {
  static std::mutex& instance = *new std::mutex;
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

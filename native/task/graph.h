// The graph of waits itself, for runner.cpp and waits.cpp alone: runner.h and waits.h say what it is.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/process_lock.h"
#include "task/runner.h"

namespace multipy {

class Await;
class Wait;

struct Graph {
  ProcessLock<std::mutex> mutex{ForkOrder::graph_of_waits};
  RunnerId last = 0;
  std::map<RunnerId, Runner*> runners;
  std::map<Runner::Thread, Wait*> waits;
  std::map<std::pair<RunnerId, std::uint64_t>, std::vector<Wait*>> waits_of_actors;  // by home and number
  std::unordered_map<const Call*, Await*> awaits;
  std::map<std::pair<RunnerId, const CallGroup*>, std::vector<Await*>> awaits_of_actors;

  static Graph& instance();
};

}  // namespace multipy

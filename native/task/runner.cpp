#include "task/runner.h"

#include <algorithm>
#include <utility>

#include "task/call.h"
#include "task/graph.h"
#include "task/payload.h"
#include "task/waits.h"

namespace multipy {

namespace {

thread_local Runner* this_runner = nullptr;
thread_local bool this_is_event_loop = false;

RunnerId next_id() {
  const std::lock_guard lock(Graph::instance().mutex);
  return ++Graph::instance().last;
}

}  // namespace

Graph& Graph::instance() {
  static Graph& instance = *new Graph;
  return instance;
}

Runner::Runner(std::string name, const Runner* home)
    : id_(next_id()), home_(home == nullptr ? id_ : home->id_), name_(std::move(name)) {
  const std::lock_guard lock(Graph::instance().mutex);
  Graph::instance().runners.emplace(id_, this);
}

Runner::~Runner() { leave(); }

void Runner::adopt_thread(bool event_loop) noexcept {
  this_runner = this;
  this_is_event_loop = event_loop;
}

Runner* Runner::of_this_thread() noexcept { return this_runner; }

bool Runner::is_event_loop() noexcept { return this_is_event_loop; }

void Runner::leave() noexcept {
  const std::lock_guard lock(Graph::instance().mutex);
  Graph::instance().runners.erase(id_);
}

void Runner::replace(Servers& servers, RunnerId before, RunnerId successor) noexcept {
  const std::lock_guard lock(Graph::instance().mutex);
  std::replace(servers.begin(), servers.end(), before, successor);
}

Runner::Reached Runner::interrupt(RunnerId runner, const Call* call, const CallGroup* group) noexcept {
  const std::lock_guard lock(Graph::instance().mutex);
  const auto found = Graph::instance().runners.find(runner);
  if (found == Graph::instance().runners.end()) return Reached::nothing;
  const Reached reached = found->second->interrupt_running(call, group);
  if (reached == Reached::code) found->second->disturb(false);
  return reached;
}

void Runner::disturb_event_loop() {
  const std::lock_guard lock(Graph::instance().mutex);
  disturb(true);
}

void Runner::disturb(bool event_loop) {
  disturbed_[event_loop] = true;
  const auto wait = Graph::instance().waits.find({id_, event_loop});
  if (wait != Graph::instance().waits.end()) wait->second->disturb();
}

RunnerId Runner::put_aside(const std::shared_ptr<Call>& call) {
  if (this_runner == nullptr) return 0;
  const std::lock_guard lock(Graph::instance().mutex);
  const auto home = Graph::instance().runners.find(this_runner->home_);
  if (home == Graph::instance().runners.end()) return 0;
  Runner& self = *home->second;
  const std::lock_guard lock_list(self.asides_mutex_);
  if (self.asides_.size() >= self.sweep_at_) {
    std::erase_if(self.asides_, [](const Aside& aside) { return aside.call.expired(); });
    self.sweep_at_ = std::max<std::size_t>(64, 2 * self.asides_.size());
  }
  self.asides_.push_back({self.last_aside_ + 1, call});
  ++self.last_aside_;
  return self.id_;
}

std::shared_ptr<Call> Runner::Asides::next() noexcept {
  const std::lock_guard lock(Graph::instance().mutex);
  const auto found = Graph::instance().runners.find(runner_);
  if (found == Graph::instance().runners.end()) return nullptr;
  const std::lock_guard lock_list(found->second->asides_mutex_);
  const auto& asides = found->second->asides_;
  const auto is_before = [](std::uint64_t number, const Aside& aside) { return number < aside.number; };
  for (auto aside = std::upper_bound(asides.begin(), asides.end(), last_, is_before); aside != asides.end(); ++aside) {
    last_ = aside->number;
    if (auto call = aside->call.lock()) return call;
  }
  return nullptr;
}

void Runner::interrupt_asides(RunnerId runner, const CallGroup* group, const Payload* error) noexcept {
  Asides asides(runner);
  while (const auto call = asides.next()) {
    if (call->done() || (group != nullptr && call->group().get() != group)) continue;
    if (error != nullptr) call->abandon_with(*error);
    call->interrupt();
  }
}

}  // namespace multipy

#include "task/runner.h"

#include <algorithm>
#include <climits>
#include <map>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "base/futex.h"
#include "task/call.h"
#include "task/payload.h"

namespace multipy {

namespace {

struct Graph {
  std::mutex mutex;
  RunnerId last = 0;
  std::map<RunnerId, Runner*> runners;
  std::map<RunnerId, Wait*> waits;
};
Graph& graph() {
  static Graph& instance = *new Graph;
  return instance;
}

thread_local Runner* this_runner = nullptr;

RunnerId next_id() {
  const std::lock_guard lock(graph().mutex);
  return ++graph().last;
}

}  // namespace

Runner::Runner(std::string name) : id_(next_id()), name_(std::move(name)) {
  const std::lock_guard lock(graph().mutex);
  graph().runners.emplace(id_, this);
}

Runner::~Runner() { leave(); }

void Runner::adopt_thread() noexcept { this_runner = this; }

void Runner::leave() {
  const std::lock_guard lock(graph().mutex);
  graph().runners.erase(id_);
}

void Runner::interrupt(RunnerId runner, const Call* call, const CallGroup* group) {
  const std::lock_guard lock(graph().mutex);
  const auto found = graph().runners.find(runner);
  if (found == graph().runners.end() || !found->second->interrupt_running(call, group)) return;
  found->second->disturbed_ = true;
  const auto wait = graph().waits.find(runner);
  if (wait != graph().waits.end()) wait->second->disturb();
}

void Runner::put_aside(const std::shared_ptr<Call>& call) {
  if (this_runner == nullptr) return;
  Runner& self = *this_runner;
  const std::lock_guard lock(self.asides_mutex_);
  if (self.asides_.size() >= self.sweep_at_) {
    std::erase_if(self.asides_, [](const std::weak_ptr<Call>& aside) { return aside.expired(); });
    self.sweep_at_ = std::max<std::size_t>(64, 2 * self.asides_.size());
  }
  self.asides_.push_back(call);
}

void Runner::interrupt_asides(RunnerId runner, const CallGroup* group, const Payload* error) {
  std::vector<std::shared_ptr<Call>> calls;
  {
    const std::lock_guard lock(graph().mutex);
    const auto found = graph().runners.find(runner);
    if (found == graph().runners.end()) return;
    const std::lock_guard lock_list(found->second->asides_mutex_);
    for (const auto& aside : found->second->asides_) calls.push_back(aside.lock());
  }
  for (const auto& call : calls) {
    if (call == nullptr || call->done() || (group != nullptr && call->group().get() != group)) continue;
    if (error != nullptr) call->abandon(*error);
    call->interrupt();
  }
}

Wait::Wait(Call* call, std::shared_ptr<const Servers> servers, bool finite)
    : runner_(this_runner), call_(call), room_(nullptr), servers_(std::move(servers)), finite_(finite) {
  enter();
}

Wait::Wait(std::atomic<std::uint32_t>& room, std::string label, std::shared_ptr<const Servers> servers, bool finite)
    : runner_(this_runner),
      call_(nullptr),
      room_(&room),
      label_(std::move(label)),
      servers_(std::move(servers)),
      finite_(finite) {
  enter();
}

void Wait::enter() {
  if (runner_ == nullptr) return;
  const std::lock_guard lock(graph().mutex);
  graph().waits[runner_->id()] = this;
  std::vector<Wait*> stuck;
  for (const auto& [id, wait] : graph().waits) stuck.push_back(wait);
  while (std::erase_if(stuck, [&stuck](const Wait* wait) { return wait->may_go_on(stuck); }) != 0) {
  }
  if (std::find(stuck.begin(), stuck.end(), this) == stuck.end()) return;
  const auto queued =
      std::find_if(stuck.begin(), stuck.end(), [](Wait* wait) { return wait->is_for_what_is_queued(); });
  Wait* const chosen = is_for_what_is_queued() || queued == stuck.end() ? this : *queued;
  std::string text = "this wait could never end: " + chosen->describe();
  for (const Wait* other : stuck) {
    if (other != chosen) text += "; " + other->describe();
  }
  if (chosen == this) {
    graph().waits.erase(runner_->id());
    throw DeadlockError(text);
  }
  chosen->hopeless_ = text;
  chosen->runner_->disturbed_ = true;
  chosen->disturb();
}

bool Wait::is_for_what_is_queued() const noexcept { return call_ == nullptr || call_->runner() == 0; }

Wait::~Wait() {
  if (runner_ == nullptr) return;
  const std::lock_guard lock(graph().mutex);
  graph().waits.erase(runner_->id());
}

void Wait::disturb() noexcept {
  if (call_ != nullptr) return call_->disturb_waiters();
  room_->fetch_add(1, std::memory_order_relaxed);
  futex_wake(*room_, INT_MAX);
}

bool Wait::disturbed() {
  if (runner_ == nullptr || !runner_->disturbed_.exchange(false)) return false;
  const std::lock_guard lock(graph().mutex);
  if (!hopeless_.empty()) throw DeadlockError(hopeless_);
  return true;
}

bool Wait::may_go_on(const std::vector<Wait*>& stuck) const {
  const auto is_stuck = [&stuck](RunnerId id) {
    return std::any_of(stuck.begin(), stuck.end(), [id](const Wait* wait) { return wait->runner_->id() == id; });
  };
  if (finite_ || !hopeless_.empty()) return true;
  if (call_ != nullptr) {
    if (call_->done() || call_->runs_aside()) return true;
    if (const RunnerId runner = call_->runner()) return !is_stuck(runner);
  }
  return servers_ == nullptr || !std::all_of(servers_->begin(), servers_->end(), is_stuck);
}

std::string Wait::describe() const {
  const auto name_of = [](RunnerId id) {
    const auto found = graph().runners.find(id);
    return found == graph().runners.end() ? "an interpreter that has ended" : found->second->name();
  };
  std::string text = runner_->name() + " waits for ";
  if (call_ == nullptr) {
    text += "room in the mailbox" + (label_.empty() ? label_ : " of " + label_) + " in ";
  } else {
    const std::string label = call_->label();
    text += label.empty() ? "a call" : "a call of " + label;
    text += call_->runner() != 0 ? " that runs in " : " that is queued for ";
    if (call_->runner() != 0) return text + name_of(call_->runner());
  }
  std::string servers;
  for (const RunnerId id : *servers_) servers += (servers.empty() ? "" : " or ") + name_of(id);
  return text + servers;
}

}  // namespace multipy

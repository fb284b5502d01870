#include "task/waits.h"

#include <algorithm>
#include <climits>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/futex.h"
#include "task/call.h"
#include "task/completion_queue.h"
#include "task/graph.h"

namespace multipy {

namespace {

Graph& graph() { return Graph::instance(); }

std::string name_of(RunnerId id) {
  const auto found = graph().runners.find(id);
  return found == graph().runners.end() ? "an interpreter that has ended" : found->second->name();
}

}  // namespace

/// A look at the graph, with its mutex held.
struct Search {
  using Waiters = std::vector<Waiter*>;
  /// Of each of these, one has to go on.
  using Obstacles = std::vector<Waiters>;

  static void add(Obstacles& obstacles, Runner::Thread thread) {
    const auto found = graph().waits.find(thread);
    if (found != graph().waits.end()) obstacles.push_back({found->second});
  }

  /// What keeps all of `servers` from taking a call of `actor`, which runs `at_once`; nothing if one of them may.
  static Obstacles before(const std::shared_ptr<const Servers>& servers, std::uint64_t actor, std::size_t at_once) {
    Waiters waiting;
    if (servers == nullptr || actor == 0) return {};
    for (const RunnerId server : *servers) {
      const auto found = graph().waits_of_actors.find({server, actor});
      if (found == graph().waits_of_actors.end() || found->second.size() < at_once) return {};
      waiting.insert(waiting.end(), found->second.begin(), found->second.end());
    }
    return {waiting};
  }

  /// What keeps `call` from ending.
  static Obstacles before(const Call& call) {
    Obstacles obstacles;
    if (call.done()) return obstacles;
    const RunnerId runner = call.runner();
    if (runner == 0) return before(call.servers(), call.actor(), call.at_once());
    add(obstacles, {runner, call.runs_aside()});
    if (!call.runs_aside()) return obstacles;
    if (const auto found = graph().awaits.find(&call); found != graph().awaits.end()) {
      obstacles.push_back({found->second});
    } else {
      add_turns(obstacles, runner, call.group().get(), call.turns());
    }
    return obstacles;
  }

  /// One of the `turns` calls of `group` that may run at once in `runner` has to end, if all of these wait; 0: none
  /// has.
  static void add_turns(Obstacles& obstacles, RunnerId runner, const CallGroup* group, std::size_t turns) {
    const auto others = graph().awaits_of_actors.find({runner, group});
    if (turns > 0 && others != graph().awaits_of_actors.end() && others->second.size() >= turns)
      obstacles.emplace_back(others->second.begin(), others->second.end());
  }

  /// What keeps a mailbox from having room. Where calls are only handed over to an event loop, they have to begin
  /// there.
  static Obstacles before_room(const Waiter& waiter) {
    const auto& servers = waiter.room_in_;
    const Backlog* const backlog = waiter.backlog_;
    if (servers == nullptr || backlog == nullptr || backlog->aside.load() == 0)
      return before(servers, waiter.actor_, waiter.at_once_);
    Waiters waiting;
    for (const RunnerId server : *servers) {
      Obstacles obstacles;
      add(obstacles, {server, true});
      add_turns(obstacles, server, backlog->group.load(), backlog->turns.load());
      if (obstacles.empty()) return {};
      for (const Waiters& any : obstacles) waiting.insert(waiting.end(), any.begin(), any.end());
    }
    return {waiting};
  }

  static std::vector<Obstacles> before(const Waiter& waiter) {
    if (waiter.calls_.empty()) return {before_room(waiter)};
    std::vector<Obstacles> all;
    for (const Call* call : waiter.calls_) all.push_back(before(*call));
    return all;
  }

  bool is_stuck(Waiter* waiter) const { return stuck.contains(waiter); }

  bool may_end(const Obstacles& obstacles) const {
    return std::none_of(obstacles.begin(), obstacles.end(), [this](const Waiters& any) {
      return std::all_of(any.begin(), any.end(), [this](Waiter* waiter) { return is_stuck(waiter); });
    });
  }

  bool may_go_on(const Waiter& waiter) const {
    if (waiter.ends_by_itself() || !waiter.hopeless_.empty()) return true;
    if (waiter.calls_.empty()) return may_end(before_room(waiter));
    std::size_t missing = waiter.needed_;
    for (const Call* call : waiter.calls_) {
      if (missing > 0 && may_end(before(*call))) --missing;
    }
    return missing == 0;
  }

  /// All that `start` depends on are taken for stuck.
  void reach(const Waiters& start) {
    Waiters open = start;
    while (!open.empty()) {
      Waiter* const waiter = open.back();
      open.pop_back();
      if (!stuck.insert(waiter).second) continue;
      order.push_back(waiter);
      for (const Obstacles& obstacles : before(*waiter)) {
        for (const Waiters& any : obstacles) open.insert(open.end(), any.begin(), any.end());
      }
    }
  }

  /// Removes those that are not stuck after all.
  void sift() {
    bool changed = true;
    while (changed) {
      changed = false;
      for (Waiter* waiter : order) {
        if (is_stuck(waiter) && may_go_on(*waiter)) changed = stuck.erase(waiter) != 0;
      }
    }
    std::erase_if(order, [this](Waiter* waiter) { return !is_stuck(waiter); });
  }

  /// Whether `waiter`, which is stuck, waits for itself in the end.
  bool is_in_circle(const Waiter* waiter) const {
    std::unordered_set<const Waiter*> seen;
    std::vector<const Waiter*> open = {waiter};
    while (!open.empty()) {
      const Waiter* const next = open.back();
      open.pop_back();
      for (const Obstacles& obstacles : before(*next)) {
        for (const Waiters& any : obstacles) {
          for (Waiter* other : any) {
            if (other == waiter) return true;
            if (is_stuck(other) && seen.insert(other).second) open.push_back(other);
          }
        }
      }
    }
    return false;
  }

  /// Whether something that it waits for has not begun.
  static bool is_for_what_is_queued(const Waiter* waiter) {
    return waiter->calls_.empty() || std::any_of(waiter->calls_.begin(), waiter->calls_.end(), [](const Call* call) {
             return !call->done() && (call->runner() == 0 || call->turns() > 0);
           });
  }

  /// Tells one of each circle that can be reached from `start`, `entering` if that may be.
  static void tell(const Waiters& start, Waiter* entering) {
    Search search;
    search.reach(start);
    for (;;) {
      search.sift();
      Waiters circle;
      for (Waiter* waiter : search.order) {
        if (search.is_in_circle(waiter)) circle.push_back(waiter);
      }
      if (circle.empty()) return;
      bool all_certain = true;
      for (Waiter* waiter : circle) all_certain = waiter->is_certain() && all_certain;
      if (!all_certain) return;
      const bool has_entering = std::find(circle.begin(), circle.end(), entering) != circle.end();
      const auto queued = std::find_if(circle.begin(), circle.end(), is_for_what_is_queued);
      Waiter* chosen = has_entering ? entering : circle.front();
      if (queued != circle.end() && !is_for_what_is_queued(chosen)) chosen = *queued;
      std::string hopeless = "this wait could never end: " + describe(*chosen);
      for (const Waiter* other : circle) {
        if (other != chosen) hopeless += "; " + describe(*other);
      }
      if (chosen != entering) chosen->disturb();
      chosen->hopeless_ = std::move(hopeless);  // what it reads once the mutex is free
    }
  }

  static std::string name_all(const Servers& servers) {
    std::string text;
    for (const RunnerId id : servers) text += (text.empty() ? "" : " or ") + name_of(id);
    return text;
  }

  static std::string describe(const Call& call) {
    const std::string label = call.label();
    const std::string text = label.empty() ? "a call" : "a call of " + label;
    if (call.runner() == 0) return text + " that is queued for " + name_all(*call.servers());
    return text + (call.turns() > 0 ? " that waits for its turn in " : " that runs in ") + name_of(call.runner());
  }

  static std::string describe(const Waiter& waiter) {
    std::string text = waiter.who();
    if (waiter.calls_.empty()) {
      const std::string of = waiter.label_.empty() ? "" : " of " + waiter.label_;
      return text + " waits for room in the mailbox" + of + " in " + name_all(*waiter.room_in_);
    }
    std::vector<const Call*> open;
    for (const Call* call : waiter.calls_) {
      if (!call->done()) open.push_back(call);
    }
    text += " waits for ";
    if (open.size() > 1) {
      const std::size_t done = waiter.calls_.size() - open.size();
      text += std::to_string(waiter.needed_ - std::min(done, waiter.needed_)) + " of " + std::to_string(open.size()) +
              " calls, as ";
    }
    return text + (open.empty() ? "nothing" : describe(*open.front()));
  }

  std::unordered_set<Waiter*> stuck;
  Waiters order;  // those that are stuck, as they were found
};

// Threads -----------------------------------------------------------------------------------------------------------

Wait::Wait(bool finite, Backlog* room, CompletionQueue* queue)
    : runner_(Runner::of_this_thread()),
      is_event_loop_(Runner::is_event_loop()),
      finite_(finite),
      room_(room),
      queue_(queue),
      waiting_actor_(runner_ == nullptr || is_event_loop_ ? 0 : runner_->actor()),
      waiting_label_(runner_ == nullptr || is_event_loop_ ? std::string() : runner_->label()) {}

Wait::Wait(Call* call, bool finite) : Wait(finite, nullptr, nullptr) {
  calls_.push_back(call);
  enter();
}

Wait::Wait(std::vector<Call*> calls, std::size_t needed, CompletionQueue& queue, bool finite)
    : Wait(finite, nullptr, &queue) {
  calls_ = std::move(calls);
  needed_ = needed;
  enter();
}

Wait::Wait(Backlog& backlog, std::uint64_t actor, std::size_t at_once, std::string label,
           std::shared_ptr<const Servers> servers, bool finite)
    : Wait(finite, &backlog, nullptr) {
  room_in_ = std::move(servers);
  backlog_ = &backlog;
  actor_ = actor;
  at_once_ = at_once;
  label_ = std::move(label);
  enter();
}

Wait::~Wait() {
  if (!entered_) return;
  leave();
  if (!is_event_loop_) runner_->step_back();
}

void Wait::leave() noexcept {
  const std::lock_guard lock(graph().mutex);
  graph().waits.erase(thread());
  if (waiting_actor_ == 0) return;
  const auto others = graph().waits_of_actors.find({runner_->home(), waiting_actor_});
  if (others == graph().waits_of_actors.end()) return;
  std::erase(others->second, this);
  if (others->second.empty()) graph().waits_of_actors.erase(others);
}

Runner::Thread Wait::thread() const noexcept { return {runner_->id(), is_event_loop_}; }

void Wait::enter() {
  if (runner_ == nullptr) return;
  try {
    {
      const std::lock_guard lock(graph().mutex);
      graph().waits[thread()] = this;
      if (waiting_actor_ != 0) graph().waits_of_actors[{runner_->home(), waiting_actor_}].push_back(this);
      look();
    }
    if (!is_event_loop_) runner_->step_aside();
    entered_ = true;
  } catch (...) {
    leave();
    throw;
  }
}

void Wait::look() {
  if (finite_) return;
  Search::tell({this}, this);
  if (!hopeless_.empty()) throw DeadlockError(hopeless_);
}

void Wait::leave_out(const Call& call) {
  if (runner_ == nullptr) return;
  const std::lock_guard lock(graph().mutex);
  std::erase(calls_, &call);
  look();
}

void Wait::disturb() noexcept {
  told_ = true;
  if (room_ != nullptr) {
    room_->room.fetch_add(1, std::memory_order_relaxed);
    futex_wake(room_->room, INT_MAX);
  } else if (queue_ != nullptr) {
    queue_->wake();
  } else {
    calls_.front()->disturb_waiters();
  }
}

bool Wait::disturbed() {
  if (runner_ == nullptr) return false;
  const bool interrupted = runner_->disturbed_[is_event_loop_].exchange(false);
  if (told_.exchange(false)) {
    const std::lock_guard lock(graph().mutex);
    if (!hopeless_.empty()) throw DeadlockError(hopeless_);
  }
  return interrupted;
}

std::string Wait::who() const {
  if (is_event_loop_) return "the event loop of " + runner_->name();
  return waiting_label_.empty() ? runner_->name() : "a call of " + waiting_label_ + " in " + runner_->name();
}

// Coroutines --------------------------------------------------------------------------------------------------------

Await::Await(std::vector<std::shared_ptr<Call>> job) : job_(std::move(job)) {}

Await::~Await() {
  const std::lock_guard lock(graph().mutex);
  if (!calls_.empty()) leave_graph();
}

void Await::enter_graph() {
  for (const auto& call : job_) graph().awaits[call.get()] = this;
  graph().awaits_of_actors[{job_.front()->runner(), job_.front()->group().get()}].push_back(this);
}

void Await::leave_graph() noexcept {
  for (const auto& call : job_) graph().awaits.erase(call.get());
  const auto others = graph().awaits_of_actors.find({job_.front()->runner(), job_.front()->group().get()});
  if (others == graph().awaits_of_actors.end()) return;
  std::erase(others->second, this);
  if (others->second.empty()) graph().awaits_of_actors.erase(others);
}

void Await::add(std::shared_ptr<Call> call) {
  const std::lock_guard lock(graph().mutex);
  awaited_.push_back(call);
  try {
    if (calls_.empty()) enter_graph();
    calls_.push_back(call.get());
  } catch (...) {
    awaited_.pop_back();
    if (calls_.empty()) leave_graph();
    throw;
  }
  if (certainty_ != Certainty::asked) certainty_ = Certainty::unknown;
  Search::tell({this}, nullptr);
}

void Await::remove(const Call& call) {
  std::shared_ptr<Call> removed;  // dropped after the mutex
  const std::lock_guard lock(graph().mutex);
  const auto found = std::find(calls_.begin(), calls_.end(), &call);
  if (found == calls_.end()) return;
  const auto owned = awaited_.begin() + (found - calls_.begin());
  removed = std::move(*owned);
  awaited_.erase(owned);
  calls_.erase(found);
  hopeless_.clear();
  if (certainty_ != Certainty::asked) certainty_ = Certainty::unknown;
  if (calls_.empty()) return leave_graph();
  Search::tell({this}, nullptr);
}

std::string Await::hopeless() const {
  const std::lock_guard lock(graph().mutex);
  return hopeless_;
}

bool Await::asked() const {
  const std::lock_guard lock(graph().mutex);
  return certainty_ == Certainty::asked;
}

void Await::answer(bool certain) {
  const std::lock_guard lock(graph().mutex);
  certainty_ = certain ? Certainty::certain : Certainty::excused;
  if (certain && !calls_.empty()) Search::tell({this}, nullptr);
}

void Await::look_again() {
  const std::lock_guard lock(graph().mutex);
  if (certainty_ != Certainty::excused) return;
  certainty_ = Certainty::unknown;
  if (!calls_.empty()) Search::tell({this}, nullptr);
}

void Await::disturb() { job_.front()->push_to_interrupts(); }

bool Await::is_certain() {
  if (certainty_ == Certainty::unknown) {
    disturb();
    certainty_ = Certainty::asked;
  }
  return certainty_ == Certainty::certain;
}

std::string Await::who() const {
  const std::string label = job_.front()->label();
  return (label.empty() ? "a call" : "a call of " + label) + " in " + name_of(job_.front()->runner());
}

void look_for_circles(const Call& call) {
  const std::lock_guard lock(graph().mutex);
  Search::Waiters start;
  for (const auto& any : Search::before(call)) start.insert(start.end(), any.begin(), any.end());
  if (!start.empty()) Search::tell(start, nullptr);
}

}  // namespace multipy

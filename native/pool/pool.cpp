#include "pool/pool.h"

#include <algorithm>
#include <numeric>
#include <thread>

#include "base/error.h"
#include "task/call.h"
#include "task/failure.h"

namespace multipy {

namespace {

std::vector<std::unique_ptr<Worker>> make_workers(Pool& pool, const std::vector<InterpreterOptions>& interpreters) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (const auto& options : interpreters)
    workers.push_back(std::make_unique<Worker>(pool, workers.size(), options.name));
  return workers;
}

Servers ids_of(const std::vector<std::unique_ptr<Worker>>& workers) {
  Servers ids;
  for (const auto& worker : workers) ids.push_back(worker->id());
  return ids;
}

}  // namespace

Worker::Worker(Pool& owner, std::size_t number, std::string name)
    : Runner(std::move(name)), pool(owner), index(number), returns(std::make_shared<ReturnQueue>()) {}

Worker::~Worker() = default;

/// While there is one, what runs does not end.
class Worker::Look {
 public:
  explicit Look(const Worker& worker) noexcept : worker_(worker) {
    worker.looking_.fetch_add(1);
    running = worker.running_.load();
  }
  ~Look() { worker_.looking_.fetch_sub(1); }
  Look(const Look&) = delete;
  Look& operator=(const Look&) = delete;

  Call* running;

 private:
  const Worker& worker_;
};

bool Worker::begin(Call& call) {
  turns_.fetch_add(1, std::memory_order_relaxed);
  running_.store(&call);
  // After that, as who interrupts says so before the look at what runs: one of both sees the other.
  return !call.interrupted() && !pool.interrupted();
}

bool Worker::begin(Calls calls) {
  turns_.fetch_add(1, std::memory_order_relaxed);
  batch_ = std::move(calls);
  running_.store(batch_.front().get());
  if (pool.interrupted()) return false;
  bool wanted = false;
  for (const auto& call : batch_) {
    if (!call->interrupted()) {
      wanted = true;
    } else if (batch_.size() > 1) {
      call->abandon({});
    }
  }
  return wanted;
}

void Worker::end() noexcept {
  if (running_.load(std::memory_order_relaxed) == nullptr) return;
  running_.store(nullptr);
  while (looking_.load() != 0) std::this_thread::yield();
  batch_.clear();
}

Worker::Calls Worker::running_of(const CallGroup& group) const {
  const Look look(*this);
  if (look.running == nullptr || look.running->group().get() != &group) return {};
  if (!batch_.empty()) return batch_;
  return {std::static_pointer_cast<Call>(look.running->shared_from_this())};
}

Runner::Reached Worker::interrupt_running(const Call* call, const CallGroup* group) {
  const Look look(*this);
  if (look.running == nullptr) return Reached::nothing;
  if (group != nullptr) {
    if (look.running->group().get() != group) return Reached::nothing;
  } else if (call != nullptr && batch_.empty()) {
    if (look.running != call) return Reached::nothing;
  } else if (call != nullptr) {
    const auto is_meant = [call](const auto& member) { return member.get() == call; };
    const auto is_to_end = [](const auto& member) { return member->interrupted() || member->done(); };
    if (std::none_of(batch_.begin(), batch_.end(), is_meant)) return Reached::nothing;
    if (!std::all_of(batch_.begin(), batch_.end(), is_to_end)) return Reached::shared_code;
  }
  pool.interpreter(index).interrupt(turns_.load());
  return Reached::code;
}

Pool::Pool(const std::vector<InterpreterOptions>& interpreters, std::string name)
    : name_(std::move(name)),
      workers_(make_workers(*this, interpreters)),
      dispatcher_(interpreters.size(), ids_of(workers_)),
      actor_counts_(interpreters.size()),
      messages_(std::make_shared<CompletionQueue>()) {
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < interpreters.size(); ++i) {
    all.push_back(i);
    own_mailboxes_.push_back(dispatcher_.open_mailbox({i}));
    interpreters_.push_back(std::make_shared<Interpreter>(interpreters[i]));
  }
  any_mailbox_ = dispatcher_.open_mailbox(std::move(all));
}

Pool::~Pool() {
  for (const auto& worker : workers_) worker->leave();
}

std::vector<std::size_t> Pool::place(std::size_t replicas, std::optional<std::size_t> avoided) {
  const std::lock_guard lock(placing_mutex_);
  std::vector<std::size_t> order(size());
  std::iota(order.begin(), order.end(), 0);
  const auto rank = [&](std::size_t index) { return std::pair(actor_counts_[index], index == avoided); };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t left, std::size_t right) { return rank(left) < rank(right); });
  order.resize(std::min(replicas, order.size()));
  std::sort(order.begin(), order.end());
  for (const std::size_t chosen : order) ++actor_counts_[chosen];
  return order;
}

void Pool::count_actors(std::size_t interpreter, int change) {
  const std::lock_guard lock(placing_mutex_);
  actor_counts_.at(interpreter) += change;
}

void Pool::start() {
  for (std::size_t i = 0; i < interpreters_.size(); ++i) {
    workers_[i]->returns->set_wake([this, i] { dispatcher_.wake(i); });
    interpreters_[i]->start(workers_[i].get(), [self = shared_from_this(), i] { self->ended(i); });
  }
}

Payload Pool::end_of(std::size_t index) const {
  const std::string& interpreter = workers_[index]->name();
  if (closed())
    return own_failure("PoolClosedError", "the interpreter " + interpreter + " ended before the call was done");
  std::string text = "the interpreter " + interpreter + " has ended";
  if (const std::string& why = interpreters_[index]->failure(); !why.empty()) text += ": " + why;
  return own_failure("InterpreterDiedError", text);
}

void Pool::ended(std::size_t index) {
  const auto& returns = workers_[index]->returns;
  returns->set_wake(nullptr);
  if (interpreters_[index]->finalised()) {
    // From here on releases run wherever they happen; deleters see that their Python is gone.
    returns->close();
  } else {
    // They would need the GIL of a Python in which anything may still go on: what it exported is never released.
    new std::shared_ptr<ReturnQueue>(returns);
  }
  const Payload error = end_of(index);
  auto calls = dispatcher_.retire(index);
  auto& in_hand = workers_[index]->in_hand;
  calls.insert(calls.end(), in_hand.begin(), in_hand.end());
  in_hand.clear();
  for (const auto& call : calls) call->abandon(error);
  Runner::interrupt_asides(workers_[index]->id(), nullptr, &error);
  if (++ended_ == size()) messages_->close();
}

WaitResult Pool::wait_started(Deadline deadline) {
  for (const auto& interpreter : interpreters_) {
    const auto result = interpreter->wait_started(deadline);
    if (result != WaitResult::woken) return result;
  }
  for (const auto& interpreter : interpreters_) {
    if (interpreter->state() == Interpreter::State::failed) throw StartError(interpreter->failure());
  }
  return WaitResult::woken;
}

void Pool::interrupt_running() {
  // Before the look at what runs, as a worker says what it runs before it asks: one of both sees the other.
  interrupted_.store(true);
  for (const auto& worker : workers_) {
    Runner::interrupt(worker->id(), nullptr, nullptr);
    Runner::interrupt_asides(worker->id(), nullptr, nullptr);
  }
}

void Pool::close() {
  closed_.store(true, std::memory_order_release);
  dispatcher_.close();
}

WaitResult Pool::join(Deadline deadline) {
  for (const auto& interpreter : interpreters_) {
    const auto result = interpreter->join(deadline);
    if (result != WaitResult::woken) return result;
  }
  return WaitResult::woken;
}

}  // namespace multipy

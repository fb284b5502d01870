#include "pool/pool.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <thread>

#include "base/error.h"
#include "base/output.h"
#include "pool/supervisor.h"
#include "task/call.h"
#include "task/failure.h"
#include "task/timer.h"

namespace multipy {

Worker::Worker(Pool& owner, std::size_t number, std::string name, Interpreter& place)
    : Runner(std::move(name)),
      pool(owner),
      index(number),
      interpreter(place),
      home(*this),
      returns(std::make_shared<ReturnQueue>()),
      desk(id()) {}

Worker::Worker(Worker& first)
    : Runner(first.name(), &first),
      pool(first.pool),
      index(first.index),
      interpreter(first.interpreter),
      home(first),
      returns(first.returns),
      desk(id(), false, first.id()) {}

Worker::~Worker() = default;

Resident::~Resident() = default;

bool Worker::is_here() const noexcept { return of_this_thread() == this && !is_event_loop(); }

Worker& Worker::here() noexcept {
  Runner* const runner = of_this_thread();
  return runner != nullptr && runner->home() == id() ? static_cast<Worker&>(*runner) : *this;
}

Worker* Worker::of_crew(std::size_t number) const noexcept {
  if (number == 0) return &home;
  const std::lock_guard lock(home.crew_mutex_);
  return number <= home.others_.size() ? home.others_[number - 1].get() : nullptr;
}

void Worker::rest() noexcept {
  const std::lock_guard lock(home.crew_mutex_);
  has_thread_ = false;
}

int Worker::start_another() {
  Worker* next = nullptr;
  {
    const std::lock_guard lock(home.crew_mutex_);
    auto& others = home.others_;
    const auto free = std::find_if(others.begin(), others.end(), [](const auto& other) { return !other->has_thread_; });
    if (free != others.end()) {
      next = free->get();
    } else {
      next = others.emplace_back(std::make_unique<Worker>(home)).get();
    }
    next->has_thread_ = true;
  }
  pool.dispatcher().expect_thread(index);
  const int failure = interpreter.start_worker(next);
  if (failure == 0) return 0;
  pool.dispatcher().expect_thread(index, false);
  next->rest();
  return failure;
}

void Worker::step_aside() {
  if (pool.dispatcher().step_aside(index, desk)) return;
  if (const int failure = start_another(); failure != 0) {
    step_back();
    throw Error("a call that waits needs a thread for others, and there can be none: " +
                std::string(std::strerror(failure)));
  }
}

void Worker::step_back() noexcept { pool.dispatcher().step_back(index, desk); }

std::uint64_t Worker::actor() const noexcept { return in_hand.empty() ? 0 : in_hand.front()->actor(); }

std::string Worker::label() const { return in_hand.empty() ? std::string() : in_hand.front()->label(); }

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
  turn_.store(home.turns_.fetch_add(1, std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  running_.store(&call);
  // After that, as who interrupts says so before the look at what runs: one of both sees the other.
  return !call.interrupted() && !pool.interrupted();
}

bool Worker::begin(Calls calls) {
  turn_.store(home.turns_.fetch_add(1, std::memory_order_relaxed) + 1, std::memory_order_relaxed);
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

void Worker::end_running_of(const CallGroup& group, Clock::duration patience) noexcept {
  // By number, as the turn may be over after each.
  for (std::size_t number = 0;; ++number) {
    std::shared_ptr<Call> call;
    {
      const Look look(*this);
      if (look.running == nullptr || look.running->group().get() != &group) break;
      if (number >= std::max<std::size_t>(1, batch_.size())) break;
      call = batch_.empty() ? std::static_pointer_cast<Call>(look.running->shared_from_this()) : batch_[number];
    }
    // Who waits for one is told at once: its code may be where no interrupt reaches it.
    call->abandon({});
    try {
      interrupt_until_over(call, patience);
    } catch (const std::exception&) {
      // Without memory, or a thread for that, it is interrupted once.
    }
  }
  Runner::interrupt(id(), nullptr, &group);
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
  interpreter.interrupt(turn_.load());
  return Reached::code;
}

Pool::Pool(std::vector<InterpreterOptions> interpreters, std::string name, bool restarts)
    : name_(std::move(name)),
      options_(std::move(interpreters)),
      restarts_(restarts),
      places_(options_.size()),
      dispatcher_(size(), runners()),
      actor_counts_(size()),
      messages_(std::make_shared<CompletionQueue>()) {
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < size(); ++i) {
    all.push_back(i);
    own_mailboxes_.push_back(dispatcher_.open_mailbox({i}));
  }
  any_mailbox_ = dispatcher_.open_mailbox(std::move(all), 0, restarts);
}

Pool::~Pool() {
  for (const Place& place : places_) {
    for (const auto& tenancy : place.tenancies) {
      for (std::size_t number = 0; Worker* const worker = tenancy.worker->of_crew(number); ++number) worker->leave();
    }
  }
}

const Worker& Pool::worker(std::size_t index) const { return *places_.at(index).now.load(std::memory_order_acquire); }

const Worker* Pool::tenant(std::size_t index, std::size_t number) const noexcept {
  const std::lock_guard lock(keeping_mutex_);
  const auto& tenancies = places_[index].tenancies;
  return number < tenancies.size() ? tenancies[number].worker.get() : nullptr;
}

Worker& Pool::make_tenancy(std::size_t index) {
  Place& place = places_[index];
  auto interpreter = std::make_shared<Interpreter>(options_[index]);
  auto worker = std::make_unique<Worker>(*this, index, options_[index].name, *interpreter);
  Worker& made = *worker;
  const std::lock_guard lock(keeping_mutex_);
  place.tenancies.push_back({std::move(interpreter), std::move(worker)});
  return made;
}

/// The first of all places, which are made here.
Servers Pool::runners() {
  Servers runners;
  for (std::size_t index = 0; index < size(); ++index) {
    places_[index].now = &make_tenancy(index);
    runners.push_back(worker(index).id());
  }
  return runners;
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

void Pool::keep_setup(Payload request) {
  if (!restarts_) return;
  const std::lock_guard lock(keeping_mutex_);
  setup_.push_back(std::move(request));
}

void Pool::add(std::uint64_t number, const std::shared_ptr<Resident>& resident) {
  if (!restarts_) return;
  const std::lock_guard lock(keeping_mutex_);
  residents_.emplace(number, resident);
}

void Pool::remove(std::uint64_t number) noexcept {
  if (!restarts_) return;
  const std::lock_guard lock(keeping_mutex_);
  residents_.erase(number);
}

std::function<void()> Pool::at_end_of(Worker& worker) {
  worker.returns->set_wake([this, &worker] { dispatcher_.wake(worker.index); });
  return [self = shared_from_this(), &worker] { self->ended(worker); };
}

void Pool::start() {
  if (restarts_) {
    sigset_t signals;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &signals);
    try {
      supervisor_ = Supervisor::create(signals);
    } catch (const std::exception& error) {
      supervisor_failure_ = "no thread that restarts interpreters: " + std::string(error.what());
    }
  }
  for (Place& place : places_) {
    const auto& [interpreter, worker] = place.tenancies.front();
    try {
      interpreter->start(worker.get(), at_end_of(*worker));
    } catch (const std::bad_alloc& error) {
      interpreter->give_up(error.what(), [this, first = worker.get()] { ended(*first); });
    }
  }
}

Payload Pool::end_of(const Worker& worker) const noexcept {
  try {
    const std::string& interpreter = worker.name();
    if (closed() && !worker.lost && worker.interpreter.failure().empty())
      return own_failure("PoolClosedError", "the interpreter " + interpreter + " ended before the call was done");
    std::string text = "the interpreter " + interpreter + " has ended";
    const std::string& why = worker.gave_up.empty() ? worker.interpreter.failure() : worker.gave_up;
    if (!why.empty()) text += ": " + why;
    return own_failure("InterpreterDiedError", text);
  } catch (const std::bad_alloc&) {
    return {};  // it says nothing
  }
}

void Pool::lost(Worker& worker) noexcept {
  if (worker.lost.exchange(true)) return;
  const Payload error = end_of(worker);
  worker.replaced = replace(worker, error);
  if (!worker.replaced) retire(worker, error);
  for (std::size_t number = 0; const Worker* const other = worker.of_crew(number); ++number)
    Runner::interrupt(other->id(), nullptr, nullptr);
}

void Pool::retire(Worker& worker, const Payload& error) noexcept {
  const CallList queued = dispatcher_.retire(worker.index);
  Dispatcher::Place place;
  while (const auto call = dispatcher_.next_in_hand(worker.index, place)) call->abandon_with(error);
  for (const auto& call : queued) call->abandon_with(error);
  Runner::interrupt_asides(worker.id(), nullptr, &error);
}

bool Pool::goes_on(const Call& call, const Worker& worker, std::size_t in_hand) const {
  if (call.state() == CallState::pending && call.mailbox() == any_mailbox_) return true;
  if (!call.may_be_retried() || call.done()) return false;
  // A pool that is closed must come to its end: what may be tried for ever is not, if nothing else got done.
  return !closed() || !call.may_always_be_retried() || worker.deliveries > worker.prepared + in_hand;
}

bool Pool::is_awaited(const Worker& worker) const {
  if (interrupted()) return false;
  const auto in_hand = dispatcher_.in_hand(worker.index);
  return dispatcher_.awaits_another(worker.index) || std::any_of(in_hand.begin(), in_hand.end(), [&](const auto& call) {
           return goes_on(*call, worker, in_hand.size());
         });
}

bool Pool::replace(Worker& worker, const Payload& error) noexcept {
  std::vector<Payload> setup;
  std::function<void()> ended;
  Worker* next = nullptr;
  try {
    if (supervisor_ == nullptr || !worker.gave_up.empty() || (closed() && !is_awaited(worker))) return false;
    {
      const std::lock_guard lock(keeping_mutex_);
      setup = setup_;
    }
    if (worker.deliveries <= setup.size()) return false;
    next = &make_tenancy(worker.index);
    ended = at_end_of(*next);
    hand_over(worker, *next, error);
  } catch (const std::exception&) {
    if (next != nullptr) next->interpreter.give_up("it was not needed");
    return false;
  }
  // From here on the other one is there, and ends if this fails.
  try {
    move_in(*next, std::move(setup), ended, error);
  } catch (const std::exception& failure) {
    next->interpreter.give_up(failure.what(), ended);
  }
  return true;
}

void Pool::hand_over(Worker& worker, Worker& next, const Payload& error) {
  Dispatcher::Calls in_hand;
  CallList lost = dispatcher_.replace(worker.index, next.id(), &in_hand);
  // Nothing below fails.
  Place& place = places_[worker.index];
  place.now.store(&next, std::memory_order_release);
  place.restarts.fetch_add(1);
  CallList again;
  for (const auto& call : in_hand) {
    const bool has_not_begun = call->mailbox() == any_mailbox_ && call->state() == CallState::pending;
    if (goes_on(*call, worker, in_hand.size()) && (has_not_begun || call->take_back())) {
      again.push_back(call);
    } else {
      lost.push_back(call);
    }
  }
  put_back(std::move(again), error);
  for (const auto& call : lost) call->abandon_with(error);
  Runner::Asides asides(worker.id());
  while (const auto call = asides.next()) {
    if (call->may_be_retried()) continue;
    call->abandon_with(error);
    call->interrupt();
  }
}

void Pool::move_in(Worker& next, std::vector<Payload> setup, std::function<void()> ended, const Payload& error) {
  Dispatcher::Calls first;
  std::vector<std::shared_ptr<Resident>> residents;
  for (Payload& request : setup) first.push_back(std::make_shared<Call>(std::move(request)));
  {
    const std::lock_guard lock(keeping_mutex_);
    residents.reserve(residents_.size());
    for (const auto& [number, resident] : residents_) residents.push_back(resident.lock());
  }
  std::erase(residents, nullptr);
  first.reserve(first.size() + residents.size());
  for (const auto& resident : residents) {
    if (auto call = resident->move_in(next.index, error)) first.push_back(std::move(call));
  }
  for (const auto& call : first) call->expect_nobody();
  next.prepared = first.size();
  dispatcher_.put_first(next.index, first);
  try {
    const std::string text = "multipy: the interpreter " + next.name() + " has ended; another takes its place\n";
    write_output(2, next.id(), {}, text);
  } catch (const std::bad_alloc&) {
    // It does so without a word.
  }
  supervisor_->start(places_[next.index].tenancies.back().interpreter, &next, std::move(ended));
}

void Pool::put_back(CallList calls, const Payload& error) noexcept {
  for (const auto& call : dispatcher_.put_back(std::move(calls))) call->abandon_with(error);
}

void Pool::ended(Worker& worker) noexcept {
  worker.in_hand.clear();
  const auto& returns = worker.returns;
  returns->set_wake(nullptr);
  if (worker.interpreter.finalised()) {
    // From here on releases run wherever they happen; deleters see that their Python is gone.
    returns->close();
  } else {
    // They would need the GIL of a Python in which anything may still go on: what it exported is never released.
    // Its threads have the worker and the pool for ever.
    worker.kept = shared_from_this();
  }
  const Payload error = end_of(worker);
  if (!worker.replaced) {
    if (!worker.lost) retire(worker, error);
    if (++ended_ < size()) return;
    messages_->close();
    if (supervisor_) supervisor_->end();
    return;
  }
  CallList again;
  Runner::Asides asides(worker.id());
  while (auto call = asides.next()) {
    if (call->take_back()) {
      again.push_back(std::move(call));
    } else {
      call->abandon_with(error);
    }
  }
  put_back(std::move(again), error);
  for (std::size_t number = 0; Worker* const other = worker.of_crew(number); ++number) other->leave();
}

std::vector<const Worker*> Pool::not_ended() const {
  std::vector<const Worker*> found;
  const std::lock_guard lock(keeping_mutex_);
  for (const Place& place : places_) {
    for (const auto& [interpreter, worker] : place.tenancies) {
      if (interpreter->state() < Interpreter::State::failed) found.push_back(worker.get());
    }
  }
  return found;
}

WaitResult Pool::wait_started(Deadline deadline) {
  for (std::size_t index = 0; index < size(); ++index) {
    const auto result = interpreter(index).wait_started(deadline);
    if (result != WaitResult::woken) return result;
  }
  for (std::size_t index = 0; index < size(); ++index) {
    if (interpreter(index).state() == Interpreter::State::failed) throw StartError(interpreter(index).failure());
  }
  if (!supervisor_failure_.empty()) throw StartError(supervisor_failure_);
  return WaitResult::woken;
}

void Pool::interrupt_running() noexcept {
  // Before the look at what runs, as a worker says what it runs before it asks: one of both sees the other.
  interrupted_.store(true);
  for (std::size_t index = 0; index < size(); ++index) {
    for (std::size_t number = 0; const Worker* const one = worker(index).of_crew(number); ++number)
      Runner::interrupt(one->id(), nullptr, nullptr);
    Runner::interrupt_asides(worker(index).id(), nullptr, nullptr);
  }
}

void Pool::close() noexcept {
  closed_.store(true, std::memory_order_release);
  dispatcher_.close();
}

WaitResult Pool::join(Deadline deadline) {
  for (auto open = not_ended(); !open.empty(); open = not_ended()) {
    const auto result = open.front()->interpreter.join(deadline);
    if (result != WaitResult::woken) return result;
  }
  return WaitResult::woken;
}

}  // namespace multipy

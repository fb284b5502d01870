#include "pool/actor.h"

#include <algorithm>
#include <climits>
#include <iterator>
#include <map>
#include <new>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/futex.h"
#include "base/process_lock.h"

namespace multipy {

namespace {

constexpr Clock::duration kPatience = std::chrono::seconds(1);  // with code of a killed actor

constexpr Clock::duration kToAnnounce = std::chrono::seconds(5);  // an actor whose first replica may be up already

struct Names {
  ProcessLock<std::mutex> mutex{ForkOrder::names_of_actors};
  std::map<std::string, std::weak_ptr<Actor>> actors;
};
Names& names() {
  static Names& instance = *new Names;
  return instance;
}

}  // namespace

std::uint64_t Actor::next_number() noexcept {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}

std::shared_ptr<Actor> Actor::create(std::shared_ptr<Pool> pool, ActorOptions options) {
  Dispatcher& dispatcher = pool->dispatcher();
  const auto mailbox = dispatcher.open_mailbox(options.interpreters, options.limit);
  std::shared_ptr<Actor> actor;
  try {
    actor = std::make_shared<Actor>(std::move(pool), std::move(options), mailbox);
  } catch (...) {
    dispatcher.close_mailbox(mailbox);
    throw;
  }
  actor->pool_->add(actor->number(), actor);
  const std::string& name = actor->name();
  if (name.empty()) return actor;
  std::shared_ptr<Actor> holder;  // dropped after the mutex
  {
    const std::lock_guard lock(names().mutex);
    auto& entry = names().actors[name];
    holder = entry.lock();
    if (!holder || holder->closed()) {
      entry = actor;
      return actor;
    }
  }
  throw Error("there is an actor named '" + name + "' already");
}

std::shared_ptr<Actor> Actor::find(const std::string& name) {
  std::shared_ptr<Actor> actor;  // may become the last reference, so dropped after the mutex
  {
    const std::lock_guard lock(names().mutex);
    const auto found = names().actors.find(name);
    if (found != names().actors.end()) actor = found->second.lock();
  }
  const Deadline deadline = Clock::now() + kToAnnounce;
  while (actor && actor->announced_.load(std::memory_order_acquire) == 0 && !actor->closed()) {
    if (futex_wait(actor->announced_, 0, deadline) == WaitResult::timed_out) return nullptr;
  }
  return actor && actor->announced_.load() != 0 ? actor : nullptr;
}

void Actor::announce() noexcept {
  announced_.store(1, std::memory_order_release);
  futex_wake(announced_, INT_MAX);
}

Actor::Actor(std::shared_ptr<Pool> pool, ActorOptions options, Dispatcher::MailboxId mailbox)
    : pool_(std::move(pool)),
      options_(std::move(options)),
      mailbox_(mailbox),
      group_(std::make_shared<CallGroup>(options_.label, options_.number, options_.at_once)) {
  pool_->dispatcher().allow_rows(mailbox_, true);
}

Actor::~Actor() {
  if (pool_->is_lost()) return;
  pool_->remove(number());
  close_name();
  if (closed_.load()) return;
  for (const auto& [interpreter, pinned] : pinned_) pool_->dispatcher().close_mailbox_when_empty(pinned);
  try {
    for (const std::size_t interpreter : interpreters()) dismiss(interpreter);
  } catch (const std::bad_alloc&) {
    // As in dismiss().
  }
  pool_->dispatcher().close_mailbox_when_empty(mailbox_);
}

bool Actor::closed() const noexcept { return closed_.load(std::memory_order_acquire) || pool_->closed(); }

void Actor::close_name() noexcept {
  if (name().empty()) return;
  std::shared_ptr<Actor> holder;  // dropped after the mutex
  const std::lock_guard lock(names().mutex);
  const auto found = names().actors.find(name());
  if (found == names().actors.end()) return;
  holder = found->second.lock();
  // Somebody else may have the name by now.
  if (holder == nullptr || holder.get() == this) names().actors.erase(found);
}

void Actor::dismiss(std::size_t interpreter) noexcept {
  pool_->count_actors(interpreter, -1);
  try {
    auto farewell = std::make_shared<Call>(Payload{options_.farewell, {}});
    farewell->expect_nobody();
    farewell->set_actor(number());
    // Alone, as it may have to wait for a call of the actor that is under way.
    pool_->dispatcher().post_alone(interpreter, std::move(farewell));
  } catch (const ClosedError&) {
    // The interpreter takes its replicas with it.
  } catch (const std::bad_alloc&) {
    // So does it where there is no memory to ask for them.
  }
}

std::size_t Actor::queued() const {
  const std::lock_guard lock(mutex_);
  std::size_t queued = pool_->dispatcher().queued(mailbox_);
  for (const auto& [interpreter, pinned] : pinned_) queued += pool_->dispatcher().queued(pinned);
  return queued;
}

std::shared_ptr<Call> Actor::make_replica(std::size_t interpreter, Payload request) {
  // Not one of the calls of its group, which its users count.
  auto call = std::make_shared<Call>(std::move(request));
  call->set_makes(number());
  // Held while it is posted, so that move_in() either finds it, or what is posted finds the new interpreter.
  const std::lock_guard lock(mutex_);
  if (options_.restarts != 0) making_request_ = call->request();
  auto& making = making_[interpreter];
  // Alone, before the actor's calls: behind a function that waits for its turn it would come after them.
  pool_->dispatcher().post_alone(interpreter, call);
  making = call;
  return call;
}

std::shared_ptr<Call> Actor::move_in(std::size_t interpreter, const Payload& error) {
  CallList calls;
  std::unique_lock lock(mutex_);
  const auto served_by = interpreters();
  const auto making = making_.find(interpreter);
  if (closed_.load() || making == making_.end() ||
      std::find(served_by.begin(), served_by.end(), interpreter) == served_by.end())
    return nullptr;
  if (const auto call = making->second.lock(); call && !call->done()) return nullptr;
  int& restarts = restarts_[interpreter];
  if (options_.restarts < 0 || restarts < options_.restarts) {
    auto call = std::make_shared<Call>(making_request_);
    call->set_makes(number());
    ++restarts;
    making->second = call;
    return call;
  }
  const bool last = leave(interpreter, calls);
  if (last) lost_.store(true, std::memory_order_release);
  lock.unlock();
  if (last) close_name();
  for (const auto& call : calls) call->abandon_with(error);
  pool_->count_actors(interpreter, -1);
  return nullptr;
}

bool Actor::leave(std::size_t interpreter, CallList& calls) {
  const bool last = pool_->dispatcher().leave(mailbox_, interpreter, calls);
  if (last) closed_.store(true, std::memory_order_release);
  if (const auto pinned = pinned_.extract(interpreter))
    calls.append(pool_->dispatcher().close_mailbox(pinned.mapped()));
  return last;
}

Dispatcher::MailboxId Actor::mailbox_for(std::optional<std::size_t> on) {
  if (!on) return mailbox_;
  const std::lock_guard lock(mutex_);
  if (const auto pinned = pinned_.find(*on); pinned != pinned_.end()) return pinned->second;
  const auto served_by = interpreters();
  if (std::find(served_by.begin(), served_by.end(), *on) == served_by.end())
    throw ClosedError("there is no replica in interpreter " + std::to_string(*on));
  pool_->dispatcher().allow_rows(mailbox_, false);  // who calls both has its calls in order
  const auto mailbox = pool_->dispatcher().open_mailbox({*on}, options_.limit);
  try {
    pinned_.emplace(*on, mailbox);
  } catch (...) {
    pool_->dispatcher().close_mailbox(mailbox);
    throw;
  }
  return mailbox;
}

void Actor::post(std::shared_ptr<Call> call, std::optional<std::size_t> on, bool limited) {
  pool_->dispatcher().post(mailbox_for(on), std::move(call), limited);
}

void Actor::kill(const Payload& error) {
  CallList calls;
  Dispatcher::Calls making;
  std::vector<std::size_t> served_by;
  {
    const std::lock_guard lock(mutex_);
    if (closed_.load()) return;
    served_by = interpreters();
    making.reserve(served_by.size());
    // Nothing below fails.
    closed_.store(true);
    for (const std::size_t interpreter : served_by) {
      const auto found = making_.find(interpreter);
      if (auto call = found == making_.end() ? nullptr : found->second.lock()) making.push_back(std::move(call));
    }
    calls.append(pool_->dispatcher().close_mailbox(mailbox_));
    for (const auto& [interpreter, pinned] : pinned_) calls.append(pool_->dispatcher().close_mailbox(pinned));
    pinned_.clear();
  }
  close_name();
  group_->ended.store(true);
  for (const auto& call : calls) call->abandon_with(error);
  for (const auto& call : making) {
    if (call->cancel()) continue;
    call->expect_nobody();
    call->interrupt();
  }
  for (const std::size_t interpreter : served_by) {
    for (std::size_t number = 0; Worker* const worker = pool_->worker(interpreter).of_crew(number); ++number)
      worker->end_running_of(*group_, kPatience);
    Runner::interrupt_asides(pool_->worker(interpreter).id(), group_.get(), &error);
    dismiss(interpreter);
  }
}

bool Actor::unload(std::size_t interpreter, const Payload& error) {
  CallList calls;
  bool last;
  {
    const std::lock_guard lock(mutex_);
    const auto served_by = interpreters();
    if (std::find(served_by.begin(), served_by.end(), interpreter) == served_by.end()) return false;
    last = leave(interpreter, calls);
  }
  if (last) close_name();
  for (const auto& call : calls) call->abandon_with(error);
  dismiss(interpreter);
  return true;
}

}  // namespace multipy

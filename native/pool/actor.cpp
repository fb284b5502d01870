#include "pool/actor.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"

namespace multipy {

namespace {

struct Names {
  std::mutex mutex;
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
  const auto mailbox = pool->dispatcher().open_mailbox(options.interpreters, options.limit);
  auto actor = std::make_shared<Actor>(std::move(pool), std::move(options), mailbox);
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
  const std::lock_guard lock(names().mutex);
  const auto found = names().actors.find(name);
  return found == names().actors.end() ? nullptr : found->second.lock();
}

Actor::Actor(std::shared_ptr<Pool> pool, ActorOptions options, Dispatcher::MailboxId mailbox)
    : pool_(std::move(pool)),
      options_(std::move(options)),
      mailbox_(mailbox),
      group_(std::make_shared<CallGroup>(options_.label)) {}

Actor::~Actor() {
  close_name();
  if (closed_.load()) return;
  for (const std::size_t interpreter : interpreters()) dismiss(interpreter);
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
    post_on(interpreter, std::make_shared<Call>(Payload{options_.farewell, {}}));
  } catch (const ClosedError&) {
    // The interpreter takes its replicas with it.
  }
}

void Actor::kill(const Payload& error) {
  if (closed_.exchange(true)) return;
  close_name();
  const auto served_by = interpreters();
  for (const auto& call : pool_->dispatcher().close_mailbox(mailbox_)) call->abandon(error);
  for (const std::size_t interpreter : served_by) {
    Runner::interrupt(pool_->worker(interpreter).id(), nullptr, group_.get());
    dismiss(interpreter);
  }
}

bool Actor::unload(std::size_t interpreter, const Payload& error) {
  const auto served_by = interpreters();
  if (std::find(served_by.begin(), served_by.end(), interpreter) == served_by.end()) return false;
  Dispatcher::Calls calls;
  const bool last = pool_->dispatcher().leave(mailbox_, interpreter, calls);
  if (last) {
    closed_.store(true, std::memory_order_release);
    close_name();
  }
  for (const auto& call : calls) call->abandon(error);
  dismiss(interpreter);
  return true;
}

}  // namespace multipy

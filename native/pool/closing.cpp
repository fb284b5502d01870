#include "pool/closing.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "task/call.h"

namespace multipy {

namespace {

using std::chrono::milliseconds;

constexpr Clock::duration kToComeBack = milliseconds(5000);  // from a call that has ended
// For finalisers: a process pool of torch's compiler takes seven, where nothing else runs.
constexpr Clock::duration kToEnd = milliseconds(15000);
constexpr Clock::duration kToTearDown = milliseconds(30000);  // where no code of the user's is seen
constexpr Clock::duration kBetweenQuestions = milliseconds(1000);
constexpr Clock::duration kToAnswer = milliseconds(200);
constexpr Clock::duration kBetweenLooks = milliseconds(25);

}  // namespace

Closing::Closing(std::shared_ptr<Pool> pool) : pool_(std::move(pool)) {}
Closing::~Closing() = default;

bool Closing::has_ended() const { return pool_->not_ended().empty(); }

Dispatcher::HoldUp Closing::hold_up_of(const Worker& worker) const {
  if (&worker == &pool_->worker(worker.index)) return pool_->dispatcher().hold_up(worker.index);
  // One that was replaced: only its coroutines are left.
  Dispatcher::HoldUp found;
  found.closed = true;
  Runner::Asides asides(worker.id());
  while (const auto call = asides.next()) found.owes |= call->owed();
  return found;
}

bool Closing::is_over(const Worker& worker) {
  const auto found = hold_up_of(worker);
  Waited& waited = clocks_[worker.id()];
  if (found.owes || (found.is_needed && !found.given_up)) {
    waited = {};
    return false;
  }
  if (!waited.since || waited.closed != found.closed || waited.taken != found.taken)
    waited = {Clock::now(), found.closed, found.taken};
  const auto now = Clock::now();
  const auto elapsed = now - *waited.since;
  if (found.given_up) return elapsed >= kToComeBack;
  if (elapsed < kToEnd || elapsed >= kToTearDown) return elapsed >= kToTearDown;
  // To take down a Python in which much was imported may take long, on a machine that is busy.
  if (now >= waited.ask_at) {
    waited.ask_at = now + kBetweenQuestions;
    waited.is_users = !worker.interpreter.look(now + kToAnswer).empty();
  }
  return waited.is_users;
}

WaitResult Closing::wait(Deadline deadline) {
  for (;;) {
    const Worker* next = nullptr;
    for (const Worker* worker : pool_->not_ended()) {
      if (!is_over(*worker) && next == nullptr) next = worker;
    }
    if (next == nullptr) return WaitResult::woken;
    const auto now = Clock::now();
    if (deadline && now >= *deadline) return WaitResult::timed_out;
    const auto until = deadline ? std::min(*deadline, now + kBetweenLooks) : now + kBetweenLooks;
    if (next->interpreter.join(until) == WaitResult::interrupted) return WaitResult::interrupted;
  }
}

std::vector<Closing::Left> Closing::left() const {
  std::vector<Left> left;
  const auto until = Clock::now() + kToAnswer;
  for (const Worker* worker : pool_->not_ended()) {
    const auto found = hold_up_of(*worker);
    left.push_back({worker->index, found.closed, found.label, std::chrono::duration<double>(found.busy).count(),
                    worker->interpreter.look(until)});
  }
  return left;
}

void Closing::leave(const Payload& error) noexcept {
  pool_->dispatcher().cancel_pending();
  pool_->interrupt_running();
  for (std::size_t index = 0; index < pool_->size(); ++index) {
    for (std::size_t number = 0; const Worker* const worker = pool_->tenant(index, number); ++number) {
      if (worker->interpreter.state() < Interpreter::State::failed) leave(*worker, error);
    }
  }
  pool_->messages()->close();
}

void Closing::leave(const Worker& worker, const Payload& error) noexcept {
  const bool is_there = &worker == &pool_->worker(worker.index);
  if (is_there) {
    Dispatcher::Place place;
    while (const auto call = pool_->dispatcher().next_in_hand(worker.index, place)) call->abandon_with(error);
  }
  Runner::Asides asides(worker.id());
  while (const auto call = asides.next()) call->abandon_with(error);
  // No call runs: it is code of its end, a finaliser say.
  if (!is_there || pool_->dispatcher().was_told_of_end(worker.index)) worker.interpreter.interrupt(MULTIPY_NO_TURN);
}

}  // namespace multipy

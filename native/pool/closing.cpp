#include "pool/closing.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "task/call.h"

namespace multipy {

namespace {

using std::chrono::milliseconds;

constexpr Clock::duration kToComeBack = milliseconds(5000);   // from a call that has ended
constexpr Clock::duration kToEnd = milliseconds(6000);        // a little more than an interpreter gives itself
constexpr Clock::duration kToTearDown = milliseconds(30000);  // where no code of the user's is seen
constexpr Clock::duration kBetweenQuestions = milliseconds(1000);
constexpr Clock::duration kToAnswer = milliseconds(200);
constexpr Clock::duration kBetweenLooks = milliseconds(25);

}  // namespace

Closing::Closing(std::shared_ptr<Pool> pool) : pool_(std::move(pool)), clocks_(pool_->size()) {}
Closing::~Closing() = default;

bool Closing::has_ended(std::size_t index) const {
  return pool_->interpreter(index).state() >= Interpreter::State::failed;
}

bool Closing::has_ended() const {
  for (std::size_t index = 0; index < clocks_.size(); ++index) {
    if (!has_ended(index)) return false;
  }
  return true;
}

bool Closing::is_over(std::size_t index) {
  if (has_ended(index)) return true;
  const auto found = pool_->dispatcher().hold_up(index);
  Waited& waited = clocks_[index];
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
    waited.is_users = !pool_->interpreter(index).look(now + kToAnswer).empty();
  }
  return waited.is_users;
}

WaitResult Closing::wait(Deadline deadline) {
  for (;;) {
    std::optional<std::size_t> next;
    for (std::size_t index = 0; index < clocks_.size(); ++index) {
      if (!is_over(index) && !next) next = index;
    }
    if (!next) return WaitResult::woken;
    const auto now = Clock::now();
    if (deadline && now >= *deadline) return WaitResult::timed_out;
    const auto until = deadline ? std::min(*deadline, now + kBetweenLooks) : now + kBetweenLooks;
    if (pool_->interpreter(*next).join(until) == WaitResult::interrupted) return WaitResult::interrupted;
  }
}

std::vector<Closing::Left> Closing::left() const {
  std::vector<Left> left;
  const auto until = Clock::now() + kToAnswer;
  for (std::size_t index = 0; index < clocks_.size(); ++index) {
    if (has_ended(index)) continue;
    const auto found = pool_->dispatcher().hold_up(index);
    left.push_back({index, found.closed, found.label, std::chrono::duration<double>(found.busy).count(),
                    pool_->interpreter(index).look(until)});
  }
  return left;
}

void Closing::leave(const Payload& error) {
  pool_->dispatcher().cancel_pending();
  pool_->interrupt_running();
  for (std::size_t index = 0; index < clocks_.size(); ++index) {
    if (has_ended(index)) continue;
    const auto found = pool_->dispatcher().hold_up(index);
    for (const auto& call : found.open) call->abandon(error);
    // No call runs: it is code of its end, a finaliser say.
    if (found.closed) pool_->interpreter(index).interrupt(MULTIPY_NO_TURN);
  }
  pool_->messages()->close();
}

}  // namespace multipy

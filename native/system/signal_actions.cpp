#include "system/signal_actions.h"

#include <cerrno>

namespace multipy {

namespace {

/// glibc keeps the first two real-time signals to itself.
bool is_glibcs(int number) { return number == SIGRTMIN - 1 || number == SIGRTMIN - 2 || number == 32; }

bool is_harmless(int number) {
  return number == SIGCHLD || number == SIGURG || number == SIGWINCH || number == SIGCONT;
}

}  // namespace

SignalActions::SignalActions() {
  for (int number = 1; number < kSignals; ++number) {
    struct sigaction hosts{};
    if (::sigaction(number, nullptr, &hosts) == 0 && hosts.sa_handler == SIG_IGN)
      actions_[static_cast<std::size_t>(number)].sa_handler = SIG_IGN;
  }
}

int SignalActions::act(int number, const struct sigaction* action, struct sigaction* old) noexcept {
  const bool cannot_be_set = number == SIGKILL || number == SIGSTOP;
  if (!is_one(number) || is_glibcs(number) || (action != nullptr && cannot_be_set)) {
    errno = EINVAL;
    return -1;
  }
  const std::lock_guard lock(mutex_);
  auto& noted = actions_[static_cast<std::size_t>(number)];
  const struct sigaction before = noted;
  if (action != nullptr) noted = *action;
  if (old != nullptr) *old = before;
  return 0;
}

int SignalActions::interrupt_calls(int number, bool interrupts) noexcept {
  struct sigaction action{};
  if (act(number, nullptr, &action) != 0) return -1;
  action.sa_flags = interrupts ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
  return act(number, &action, nullptr);
}

SignalActions::Delivery SignalActions::deliver(int number) noexcept {
  struct sigaction action{};
  if (act(number, nullptr, &action) != 0) return Delivery::ends;
  if (!(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_IGN) return Delivery::handled;
  if (!(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_DFL)
    return is_harmless(number) ? Delivery::handled : Delivery::ends;
  if (action.sa_flags & SA_RESETHAND) {
    const struct sigaction initial{};
    act(number, &initial, nullptr);
  }
  const int errno_before = errno;
  if (action.sa_flags & SA_SIGINFO) {
    siginfo_t info{};
    info.si_signo = number;
    info.si_code = SI_USER;
    action.sa_sigaction(number, &info, nullptr);
  } else {
    action.sa_handler(number);
  }
  errno = errno_before;
  return Delivery::handled;
}

void SignalActions::install() const noexcept {
  for (int number = 1; number < kSignals; ++number) {
    if (!is_glibcs(number)) ::sigaction(number, &actions_[static_cast<std::size_t>(number)], nullptr);
  }
}

}  // namespace multipy

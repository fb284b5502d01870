// The part of the seam for signals (system/signal_actions.h): what an interpreter asks for is noted, and what it sends
// to itself is delivered by calling what it has noted. Its clock for SIGALRM is its own (system/alarm.h).
//
// What the system itself would do to the process by a signal's default action is refused. Signals by which a process
// ends itself in distress (SIGABRT, SIGSEGV and the like) are sent for real.
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "elf/caller.h"

namespace multipy::elf {

namespace {

constexpr const char* kDefault =
    "the signal's default action would end the process, which is the host's: set a handler for it first";
constexpr const char* kClock = "only ITIMER_REAL can be set in an interpreter: the processor time is the process's";

bool is_distress(int number) {
  return number == SIGABRT || number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL ||
         number == SIGTRAP || number == SIGSYS || number == SIGKILL || number == SIGSTOP;
}

int seam_sigaction(int number, const struct sigaction* action, struct sigaction* old) {
  MULTIPY_CALLER;
  return caller.is_in_interpreter() ? caller.space->signals().act(number, action, old)
                                    : ::sigaction(number, action, old);
}

sighandler_t seam_signal(int number, sighandler_t handler) {
  MULTIPY_CALLER;
  if (!caller.is_in_interpreter()) return ::signal(number, handler);
  struct sigaction action{};
  struct sigaction old{};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  return caller.space->signals().act(number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

int seam_siginterrupt(int number, int interrupts) {
  MULTIPY_CALLER;
  if (caller.is_in_interpreter()) return caller.space->signals().interrupt_calls(number, interrupts != 0);
  struct sigaction action{};
  if (::sigaction(number, nullptr, &action) != 0) return -1;
  action.sa_flags = interrupts != 0 ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
  return ::sigaction(number, &action, nullptr);
}

int seam_raise(int number) {
  MULTIPY_CALLER;
  if (!caller.is_in_interpreter() || is_distress(number) || number == 0) return ::raise(number);
  return caller.space->signals().deliver(number) == SignalActions::Delivery::handled ? 0 : refuse(kDefault);
}

int seam_pthread_kill(pthread_t thread, int number) {
  MULTIPY_CALLER;
  if (!caller.is_in_interpreter() || is_distress(number) || number == 0) return ::pthread_kill(thread, number);
  if (caller.space->signals().deliver(number) == SignalActions::Delivery::handled) return 0;
  refuse(kDefault);
  return errno;
}

int seam_setitimer(__itimer_which_t which, const itimerval* setting, itimerval* old) {
  MULTIPY_CALLER;
  if (!caller.is_in_interpreter()) return ::setitimer(which, setting, old);
  if (which != ITIMER_REAL) return refuse(kClock);
  return caller.space->alarm().set(*setting, old);
}

int seam_getitimer(__itimer_which_t which, itimerval* setting) {
  MULTIPY_CALLER;
  if (!caller.is_in_interpreter() || which != ITIMER_REAL) return ::getitimer(which, setting);
  *setting = caller.space->alarm().get();
  return 0;
}

unsigned seam_alarm(unsigned seconds) {
  MULTIPY_CALLER;
  if (!caller.is_in_interpreter()) return ::alarm(seconds);
  itimerval setting{};
  itimerval old{};
  setting.it_value.tv_sec = seconds;
  caller.space->alarm().set(setting, &old);
  // As libc: rounded, and never 0 where it was set.
  const auto left = old.it_value.tv_sec + (old.it_value.tv_usec >= 500'000 ? 1 : 0);
  const bool was_set = old.it_value.tv_sec != 0 || old.it_value.tv_usec != 0;
  return left == 0 && was_set ? 1 : static_cast<unsigned>(left);
}

}  // namespace

std::span<const SeamFunction> functions_of_signals() {
  static const std::array functions{
      SeamFunction{"sigaction", reinterpret_cast<void*>(seam_sigaction)},
      SeamFunction{"signal", reinterpret_cast<void*>(seam_signal)},
      SeamFunction{"siginterrupt", reinterpret_cast<void*>(seam_siginterrupt)},
      SeamFunction{"raise", reinterpret_cast<void*>(seam_raise)},
      SeamFunction{"gsignal", reinterpret_cast<void*>(seam_raise)},
      SeamFunction{"pthread_kill", reinterpret_cast<void*>(seam_pthread_kill)},
      SeamFunction{"setitimer", reinterpret_cast<void*>(seam_setitimer)},
      SeamFunction{"getitimer", reinterpret_cast<void*>(seam_getitimer)},
      SeamFunction{"alarm", reinterpret_cast<void*>(seam_alarm)},
  };
  return functions;
}

}  // namespace multipy::elf

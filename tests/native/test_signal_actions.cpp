// What an interpreter believes of signals: noted and told back, delivered to its own handlers, installed in its
// children.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "sanitizers.h"
#include "system/signal_actions.h"

using multipy::SignalActions;

namespace {

int last = 0;
void note(int number) { last = number; }
void note_info(int number, siginfo_t* info, void*) { last = number + 1000 * info->si_signo; }

struct sigaction action_of(void (*handler)(int), int flags = 0) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = flags;
  return action;
}

}  // namespace

TEST_CASE("what is set is told back, and the system hears nothing of it") {
  struct sigaction before{};
  REQUIRE(::sigaction(SIGUSR1, nullptr, &before) == 0);
  SignalActions actions;
  struct sigaction old{};
  const auto noted = action_of(note, SA_RESTART);
  CHECK(actions.act(SIGUSR1, &noted, &old) == 0);
  CHECK((old.sa_handler == SIG_DFL));
  CHECK(actions.act(SIGUSR1, nullptr, &old) == 0);
  CHECK((old.sa_handler == note));
  CHECK(actions.interrupt_calls(SIGUSR1, true) == 0);
  CHECK(actions.act(SIGUSR1, nullptr, &old) == 0);
  CHECK((old.sa_flags & SA_RESTART) == 0);
  struct sigaction after{};
  REQUIRE(::sigaction(SIGUSR1, nullptr, &after) == 0);
  CHECK((before.sa_handler == after.sa_handler));
}

TEST_CASE("what cannot be set is EINVAL, as libc says it") {
  SignalActions actions;
  const auto noted = action_of(note);
  for (const int number : {0, -1, 65, 1000, SIGKILL, SIGSTOP, 32}) {
    errno = 0;
    CHECK(actions.act(number, &noted, nullptr) == -1);
    CHECK(errno == EINVAL);
  }
  CHECK(actions.act(SIGKILL, nullptr, nullptr) == 0);
}

TEST_CASE("a signal calls the handler on the thread that sends it") {
  SignalActions actions;
  last = 0;
  const auto plain = action_of(note);
  actions.act(SIGUSR1, &plain, nullptr);
  errno = 7;
  CHECK(actions.deliver(SIGUSR1) == SignalActions::Delivery::handled);
  CHECK(last == SIGUSR1);
  CHECK(errno == 7);
  struct sigaction with_info{};
  with_info.sa_sigaction = note_info;
  with_info.sa_flags = SA_SIGINFO | SA_RESETHAND;
  actions.act(SIGUSR1, &with_info, nullptr);
  CHECK(actions.deliver(SIGUSR1) == SignalActions::Delivery::handled);
  CHECK(last == SIGUSR1 + 1000 * SIGUSR1);
  CHECK(actions.deliver(SIGUSR1) == SignalActions::Delivery::ends);  // it was to be called once
}

TEST_CASE("what is ignored does nothing, and a default action that would end a process is told") {
  SignalActions actions;
  const auto ignored = action_of(SIG_IGN);
  actions.act(SIGTERM, &ignored, nullptr);
  CHECK(actions.deliver(SIGTERM) == SignalActions::Delivery::handled);
  CHECK(actions.deliver(SIGCHLD) == SignalActions::Delivery::handled);
  CHECK(actions.deliver(SIGUSR2) == SignalActions::Delivery::ends);
}

TEST_CASE("in a forked child what was noted is installed" * doctest::skip(kUnderThreadSanitizer)) {
  SignalActions actions;
  const auto handler = action_of([](int) { ::_exit(7); });
  actions.act(SIGUSR1, &handler, nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    actions.install();
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::raise(SIGUSR1);
    ::_exit(1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 7);
}

// What the code of one interpreter believes it has told the system about signals.
//
// Problem: signal handlers are the process's, and stay the host's. But much code sets some when it runs in the main
// thread of its Python: trainers, web servers, loaders of data. It must be able to, and to ask for what it has set, and
// what it then sends to itself must arrive.
//
// Model: as a process of its own would begin: what the host ignores is ignored, all else is at its default. Actions are
// noted here and told back. A signal that the interpreter sends to itself or to one of its threads, and its alarm
// (alarm.h), calls the handler on the thread that sends it; Python's handlers take that as they take a signal, and run
// on Python's main thread at its next bytecode. Signals that are sent to the process go to the host alone. A forked
// child is a process: there, what was noted is installed.
//
// Threads and locks: any, under one mutex. install() does without it, as it runs in a child that has been forked, in
// which it may be held for good.
#pragma once

#include <signal.h>

#include <array>
#include <mutex>

#include "base/export.h"

namespace multipy {

class MULTIPY_API SignalActions {
 public:
  enum class Delivery {
    handled,  // a handler was called, or the signal is ignored
    ends,     // its default action would end or stop a process
  };

  SignalActions();
  SignalActions(const SignalActions&) = delete;
  SignalActions& operator=(const SignalActions&) = delete;

  /// As sigaction of libc; the only failure is EINVAL.
  int act(int number, const struct sigaction* action, struct sigaction* old) noexcept;
  /// As siginterrupt of libc.
  int interrupt_calls(int number, bool interrupts) noexcept;
  /// Does on this thread what the interpreter has said is to be done.
  Delivery deliver(int number) noexcept;

  /// In a forked child: what was noted becomes what the system does.
  void install() const noexcept;

 private:
  static constexpr int kSignals = 65;
  static bool is_one(int number) noexcept { return number > 0 && number < kSignals; }

  mutable std::mutex mutex_;
  std::array<struct sigaction, kSignals> actions_{};
};

}  // namespace multipy

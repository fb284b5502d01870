// Sleeping on a word: woken, timed out and interrupted are told apart.
#include <doctest/doctest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "base/futex.h"

using namespace std::chrono_literals;
using multipy::Clock;
using multipy::futex_wait;
using multipy::futex_wake;
using multipy::WaitResult;

TEST_CASE("waiting for a word that has changed already returns at once") {
  const std::atomic<std::uint32_t> word = 1;
  CHECK(futex_wait(word, 0, std::nullopt) == WaitResult::woken);
}

TEST_CASE("a deadline that has passed, however long ago, is a timeout") {
  const std::atomic<std::uint32_t> word = 0;
  CHECK(futex_wait(word, 0, Clock::now()) == WaitResult::timed_out);
  CHECK(futex_wait(word, 0, Clock::now() - 1h) == WaitResult::timed_out);
  CHECK(futex_wait(word, 0, Clock::time_point{}) == WaitResult::timed_out);
  CHECK(futex_wait(word, 0, Clock::time_point::min()) == WaitResult::timed_out);
}

TEST_CASE("a wait does not end before its deadline") {
  const std::atomic<std::uint32_t> word = 0;
  const auto deadline = Clock::now() + 2ms;
  CHECK(futex_wait(word, 0, deadline) == WaitResult::timed_out);
  CHECK(Clock::now() >= deadline);
}

TEST_CASE("a sleeper wakes when the word has been changed and woken") {
  for (int round = 0; round < 200; ++round) {
    std::atomic<std::uint32_t> word = 0;
    std::thread sleeper([&] {
      while (word.load() == 0) futex_wait(word, 0, std::nullopt);
    });
    word.store(1);
    futex_wake(word, 1);
    sleeper.join();
  }
}

TEST_CASE("a signal handler that runs ends the wait as interrupted") {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  struct sigaction previous{};
  REQUIRE(sigaction(SIGUSR1, &action, &previous) == 0);

  const std::atomic<std::uint32_t> word = 0;
  std::atomic<bool> ended = false;
  WaitResult result = WaitResult::woken;
  std::thread sleeper([&] {
    result = futex_wait(word, 0, std::nullopt);
    ended.store(true);
  });
  // A signal that arrives before the thread sleeps does not end the wait: signal until one does.
  while (!ended.load()) {
    pthread_kill(sleeper.native_handle(), SIGUSR1);
    std::this_thread::yield();
  }
  sleeper.join();
  sigaction(SIGUSR1, &previous, nullptr);
  CHECK(result == WaitResult::interrupted);
}

// Locks of the process: free, and what they guard whole, in every forked child.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include "base/process_lock.h"

using multipy::ForkOrder;
using multipy::ProcessLock;

TEST_CASE("a child finds the locks free that other threads take all the time") {
  static auto& plain = *new ProcessLock<std::mutex>(ForkOrder::definitions);
  static auto& shared = *new ProcessLock<std::shared_mutex>(ForkOrder::images);
  static int left = 0;
  static int right = 0;
  std::atomic<bool> over = false;
  std::thread other([&] {
    while (!over) {
      const std::scoped_lock both(plain, shared);
      ++left;
      ++right;
    }
  });
  int failures = 0;
  for (int i = 0; i < 50; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);
      bool whole = false;
      {
        const std::lock_guard one(plain);
        const std::unique_lock two(shared);
        whole = left == right;
      }
      const std::shared_lock again(shared);
      ::_exit(whole ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    failures += status != 0;
  }
  over = true;
  other.join();
  CHECK(failures == 0);
}

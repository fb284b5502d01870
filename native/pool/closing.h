// Waiting for the interpreters of a closed pool to end, and leaving behind those that do not.
//
// Problem: whoever shuts a pool down waits for the calls that are queued and run, however long they take. But what has
// been given up must not be waited for for ever: a call that was killed or outlived its time limit and goes on all the
// same, a task on an event loop that is nobody's call, a finaliser that never returns.
//
// Model: an interpreter *owes* the calls that it has taken or can take, that have not ended, and that somebody may wait
// for. While it owes one it is waited for. After that it is given a time: a short one to come back from a call that has
// ended, another for its end, which Python code of its own keeps to as well (multipy_actors/worker/serve.py:finish),
// and a longer one where no code of the user's is seen in it. The times run from when this was first seen. Who has used
// up their time is not waited for any more. What is queued behind a call that has ended and does not come back is not
// owed by who is at it: it may never be.
//
// To leave behind is to fail its calls, and to interrupt what runs once more. Threads that go on hold all they use.
//
// Threads and locks: one thread waits at a time. What is asked of the dispatcher is asked now and then, as nothing
// tells of it; the end of an interpreter itself wakes the wait.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/export.h"
#include "pool/pool.h"

namespace multipy {

class MULTIPY_API Closing : public std::enable_shared_from_this<Closing> {
 public:
  /// An interpreter that has not ended.
  struct Left {
    std::size_t index = 0;
    bool ending = false;  // no call holds it up
    std::string label;    // whose call does, if it is an actor's
    double seconds = 0;   // for how long
    std::string threads;  // what they do, as far as it can be told
  };

  /// `pool` has been closed.
  explicit Closing(std::shared_ptr<Pool> pool);
  ~Closing();
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;

  /// Waits until every interpreter has ended or has used up its time.
  WaitResult wait(Deadline deadline);
  bool has_ended() const;
  /// Those that have not ended. They are asked what they do, and given a moment to answer: code that keeps the GIL of
  /// its Python never does.
  std::vector<Left> left() const;
  /// Leaves behind who has not ended: their calls fail with `error`.
  void leave(const Payload& error) noexcept;

 private:
  struct Waited {
    std::optional<Clock::time_point> since;  // it owes nothing
    bool closed = false;
    std::uint64_t taken = 0;
    Clock::time_point ask_at{};  // what its threads do
    bool is_users = false;       // code of the user's ran when that was asked last
  };

  Dispatcher::HoldUp hold_up_of(const Worker& worker) const;
  bool is_over(const Worker& worker);
  void leave(const Worker& worker, const Payload& error) noexcept;

  const std::shared_ptr<Pool> pool_;
  std::map<RunnerId, Waited> clocks_;
};

}  // namespace multipy

// One private Python: a namespace of images, and the thread it lives on from initialisation to finalisation.
//
// The thread blocks all signals (they are the host's), opens libpython and the extension module as private images and
// enters multipy_interpreter_main; everything Python happens in there. The thread is never joined by force: close()
// asks through the dispatcher, and join() waits as long as it is told to. An interpreter whose code never returns is
// abandoned; the thread keeps the Interpreter alive, so that nothing it uses goes away under it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/export.h"
#include "base/futex.h"
#include "elf/environment.h"
#include "elf/namespace.h"
#include "interpreter/abi.h"

namespace multipy {

struct InterpreterOptions {
  std::string name;                                           // of the thread; at most 15 bytes are shown
  std::string libpython;                                      // path
  std::string extension;                                      // path of _native
  std::vector<std::pair<std::string, std::string>> settings;  // of PyConfig, see abi.h
  elf::Policy policy;
  std::shared_ptr<const elf::Environment> environment;  // that it begins with; null: that of the process
};

class MULTIPY_API Interpreter : public std::enable_shared_from_this<Interpreter> {
 public:
  enum class State : std::uint32_t { starting, running, failed, ended };

  /// Copies the environment for the interpreter: where it is that of the process, call where nobody changes it
  /// meanwhile.
  explicit Interpreter(InterpreterOptions options);
  ~Interpreter();

  /// Starts the thread, or fails. `worker` is handed to the extension; `ended` runs on the thread when all is over.
  /// `signals` are those that the host has blocked, where this thread is none of its own.
  void start(void* worker, std::function<void()> ended, const sigset_t* signals = nullptr);
  /// It will not be started: it has failed, as `why` says, and `ended` runs here.
  void give_up(const char* why, const std::function<void()>& ended = nullptr) noexcept;
  /// Waits until it is up, failed, or `deadline`.
  WaitResult wait_started(Deadline deadline);
  /// Waits until the thread has left Python, or `deadline`.
  WaitResult join(Deadline deadline);

  /// Raises Interrupted in what runs in the turn `turn` of one of its workers, at its next bytecode; any thread.
  /// MULTIPY_NO_TURN: in what it runs at its end.
  void interrupt(std::uint64_t turn);
  /// Starts a thread that runs calls for `worker`, a Worker; on a thread of the interpreter that has not its GIL. An
  /// error number if there can be none.
  int start_worker(void* worker);
  /// What its threads are doing, for people; empty if that cannot be told by `deadline`. Any thread without a GIL.
  std::string look(Clock::time_point deadline);

  State state() const noexcept { return static_cast<State>(state_.load(std::memory_order_acquire)); }
  /// Whether Python is gone from it, in State::failed or ended: else user threads go on in there.
  bool finalised() const noexcept { return finalised_; }
  /// Why it failed to start; valid in State::failed.
  const std::string& failure() const noexcept { return failure_; }
  elf::Namespace& images() const noexcept { return images_; }

 private:
  /// No turn has this number: Python looks around, and nothing is interrupted.
  static constexpr std::uint64_t kNoTurn = ~std::uint64_t{0};

  void run(void* worker);
  void become(State state) noexcept;
  void set_failure(const char* why) noexcept;

  const InterpreterOptions options_;
  elf::Namespace& images_;
  std::string failure_;
  bool finalised_ = true;
  std::mutex interrupt_mutex_;                           // guards these against the end of Python
  multipy_interpreter_interrupt_t interrupt_ = nullptr;  // only while Python is up
  multipy_interpreter_look_t look_ = nullptr;            // the same
  multipy_interpreter_work_t work_ = nullptr;            // the same
  std::atomic<std::uint32_t> state_{static_cast<std::uint32_t>(State::starting)};
};

}  // namespace multipy

#include "interpreter/interpreter.h"

#include <cerrno>
#include <climits>
#include <exception>
#include <new>

#include "base/blocked_signals.h"
#include "base/error.h"
#include "base/thread.h"

namespace multipy {

Interpreter::Interpreter(InterpreterOptions options)
    : options_(std::move(options)),
      images_(elf::Namespace::create(options_.name, options_.policy,
                                     options_.environment ? options_.environment->array() : nullptr)) {}

Interpreter::~Interpreter() = default;

void Interpreter::become(State state) noexcept {
  state_.store(static_cast<std::uint32_t>(state), std::memory_order_release);
  futex_wake(state_, INT_MAX);
}

void Interpreter::set_failure(const char* why) noexcept {
  try {
    failure_ = why;
  } catch (const std::bad_alloc&) {
    failure_ = "out of memory";  // for which it needs none
  }
}

void Interpreter::give_up(const char* why, const std::function<void()>& ended) noexcept {
  set_failure(why);
  if (ended) ended();
  become(State::failed);
}

void Interpreter::start(void* worker, std::function<void()> ended, const sigset_t* signals) {
  const BlockedSignals blocked;
  images_.set_host_signal_mask(signals == nullptr ? blocked.before() : *signals);
  try {
    start_thread(main_thread_stack(), [self = shared_from_this(), worker, ended] {
      ::pthread_setname_np(::pthread_self(), self->options_.name.substr(0, 15).c_str());
      self->run(worker);
      ended();
      self->become(self->failure_.empty() ? State::ended : State::failed);
    });
  } catch (const std::bad_alloc& error) {
    give_up(error.what(), ended);
  } catch (const std::exception& error) {
    give_up((options_.name + ": no thread: " + error.what()).c_str(), ended);
  }
}

void Interpreter::run(void* worker) {
  images_.enter_main_thread();
  std::vector<multipy_setting> settings;
  multipy_boot boot{};
  boot.size = sizeof boot;
  boot.version = MULTIPY_ABI_VERSION;
  boot.worker = worker;
  boot.context = this;
  boot.started = [](void* context, const char* message) {
    auto* self = static_cast<Interpreter*>(context);
    if (message != nullptr) {
      self->set_failure(message);
    } else {
      self->become(State::running);
    }
  };
  boot.ending = [](void* context) {
    auto* self = static_cast<Interpreter*>(context);
    self->images_.set_attention(nullptr);
    const std::lock_guard lock(self->interrupt_mutex_);
    self->interrupt_ = nullptr;
    self->look_ = nullptr;
    self->work_ = nullptr;
  };
  multipy_interpreter_main_t enter = nullptr;
  try {
    for (const auto& [name, value] : options_.settings) settings.push_back({name.c_str(), value.c_str()});
    boot.settings = settings.data();
    boot.setting_count = settings.size();
    images_.open(options_.libpython, true);
    const elf::Image& extension = images_.open(options_.extension, false);
    enter = reinterpret_cast<multipy_interpreter_main_t>(images_.find(extension, MULTIPY_INTERPRETER_MAIN));
    if (enter == nullptr) throw ImageError(options_.extension, "undefined symbol", MULTIPY_INTERPRETER_MAIN);
    const std::lock_guard lock(interrupt_mutex_);
    interrupt_ =
        reinterpret_cast<multipy_interpreter_interrupt_t>(images_.find(extension, MULTIPY_INTERPRETER_INTERRUPT));
    look_ = reinterpret_cast<multipy_interpreter_look_t>(images_.find(extension, MULTIPY_INTERPRETER_LOOK));
    work_ = reinterpret_cast<multipy_interpreter_work_t>(images_.find(extension, MULTIPY_INTERPRETER_WORK));
  } catch (const std::exception& error) {
    set_failure(error.what());
    return;
  }
  images_.set_attention([this] { interrupt(kNoTurn); });
  // Outside every handler: a C++ exception that user code lets go would leave a Python in the middle of a call, its
  // GIL held. It ends the process instead, where it was thrown, as in a Python of its own.
  const int32_t status = enter(&boot);
  finalised_ = status != 2;
  images_.set_attention(nullptr);  // where it did not start
  if (status == 0) images_.run_destructors();
  if (finalised_) images_.record_locks().release_all();
}

void Interpreter::interrupt(std::uint64_t turn) {
  const std::lock_guard lock(interrupt_mutex_);
  if (interrupt_ != nullptr && state() == State::running) interrupt_(turn);
}

int Interpreter::start_worker(void* worker) {
  const std::lock_guard lock(interrupt_mutex_);
  return work_ != nullptr && state() == State::running ? work_(worker) : ESRCH;
}

std::string Interpreter::look(Clock::time_point deadline) {
  struct Answer {
    std::atomic<std::uint32_t> told = 0;
    std::string text;
  };
  const auto answer = std::make_shared<Answer>();
  {
    const std::lock_guard lock(interrupt_mutex_);
    if (look_ == nullptr || state() != State::running) return {};
    auto held = std::make_unique<std::shared_ptr<Answer>>(answer);  // by the thread that will tell
    const auto tell = [](void* context, const char* text) {
      const std::unique_ptr<std::shared_ptr<Answer>> mine(static_cast<std::shared_ptr<Answer>*>(context));
      (*mine)->text = text;
      (*mine)->told.store(1, std::memory_order_release);
      futex_wake((*mine)->told, 1);
    };
    if (look_(tell, held.get()) != 0) return {};
    held.release();
  }
  while (answer->told.load(std::memory_order_acquire) == 0) {
    if (futex_wait(answer->told, 0, deadline) == WaitResult::timed_out) return {};
  }
  return answer->text;
}

WaitResult Interpreter::wait_started(Deadline deadline) {
  while (state() == State::starting) {
    const auto result = futex_wait(state_, static_cast<std::uint32_t>(State::starting), deadline);
    if (result != WaitResult::woken) return result;
  }
  return WaitResult::woken;
}

WaitResult Interpreter::join(Deadline deadline) {
  for (;;) {
    const auto now = state_.load(std::memory_order_acquire);
    if (now >= static_cast<std::uint32_t>(State::failed)) return WaitResult::woken;
    const auto result = futex_wait(state_, now, deadline);
    if (result != WaitResult::woken) return result;
  }
}

}  // namespace multipy

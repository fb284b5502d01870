#include "pool/pool.h"

#include "base/error.h"

namespace multipy {

Pool::Pool(const std::vector<InterpreterOptions>& interpreters) : dispatcher_(interpreters.size()) {
  for (std::size_t i = 0; i < interpreters.size(); ++i) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->pool = this;
    workers_.back()->index = i;
    workers_.back()->returns = std::make_shared<ReturnQueue>();
    interpreters_.push_back(std::make_shared<Interpreter>(interpreters[i]));
  }
}

Pool::~Pool() = default;

void Pool::start() {
  for (std::size_t i = 0; i < interpreters_.size(); ++i) {
    workers_[i]->returns->set_wake([this, i] { dispatcher_.wake(i); });
    interpreters_[i]->start(workers_[i].get(), [self = shared_from_this(), i] { self->ended(i); });
  }
}

void Pool::ended(std::size_t index) {
  const auto& returns = workers_[index]->returns;
  returns->set_wake(nullptr);
  if (interpreters_[index]->finalised()) {
    // From here on releases run wherever they happen; deleters see that their Python is gone.
    returns->close();
  } else {
    // They would need the GIL of a Python in which anything may still go on: what it exported is never released.
    new std::shared_ptr<ReturnQueue>(returns);
  }
  for (const auto& call : dispatcher_.retire(index)) call->abandon({});
}

WaitResult Pool::wait_started(Deadline deadline) {
  for (const auto& interpreter : interpreters_) {
    const auto result = interpreter->wait_started(deadline);
    if (result != WaitResult::woken) return result;
  }
  for (const auto& interpreter : interpreters_) {
    if (interpreter->state() == Interpreter::State::failed) throw StartError(interpreter->failure());
  }
  return WaitResult::woken;
}

void Pool::interrupt_running() {
  for (std::size_t i = 0; i < interpreters_.size(); ++i) {
    if (void* call = workers_[i]->running.load()) interpreters_[i]->interrupt(call);
  }
}

void Pool::close() { dispatcher_.close(); }

WaitResult Pool::join(Deadline deadline) {
  for (const auto& interpreter : interpreters_) {
    const auto result = interpreter->join(deadline);
    if (result != WaitResult::woken) return result;
  }
  return WaitResult::woken;
}

}  // namespace multipy

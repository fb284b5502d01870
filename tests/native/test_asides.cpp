// Calls that go on aside: who interrupts them, and what ends with their actor; and calls that run as one batch.
#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pool/dispatcher.h"
#include "task/call.h"
#include "task/completion_queue.h"
#include "task/runner.h"

using multipy::Call;
using multipy::CallGroup;
using multipy::CallState;
using multipy::Clock;
using multipy::CompletionQueue;
using multipy::Dispatcher;
using multipy::Payload;
using multipy::Runner;
using namespace std::chrono_literals;

namespace {

class Worker final : public Runner {
 public:
  Worker() : Runner("worker") {}
  ~Worker() override { leave(); }

 protected:
  Reached interrupt_running(const Call*, const CallGroup*) override { return Reached::nothing; }
};

/// Has `worker` start `call` and put it aside.
void put_aside(Worker& worker, const std::shared_ptr<Call>& call, const std::shared_ptr<CompletionQueue>& queue) {
  std::thread([&] {
    worker.adopt_thread();
    CHECK(call->start());
    call->run_aside(queue);
  }).join();
}

std::shared_ptr<Call> next_of(CompletionQueue& queue) { return queue.pop(Clock::now()); }

std::shared_ptr<Call> posted(Dispatcher& dispatcher, Dispatcher::MailboxId mailbox, const std::string& batch) {
  auto call = std::make_shared<Call>(Payload{});
  call->set_batch(batch);
  dispatcher.post(mailbox, call);
  return call;
}

}  // namespace

TEST_CASE("whoever wants a call that goes on aside to end reaches its queue, before and after it is put there") {
  Worker worker;
  const auto queue = std::make_shared<CompletionQueue>();
  const auto call = std::make_shared<Call>(Payload{});
  put_aside(worker, call, queue);
  CHECK(next_of(*queue) == nullptr);
  call->interrupt();
  CHECK(next_of(*queue) == call);

  const auto early = std::make_shared<Call>(Payload{});
  early->interrupt();
  put_aside(worker, early, queue);
  CHECK(next_of(*queue) == early);
}

TEST_CASE("an interrupt and being put aside may come at once, and the interrupt is never lost") {
  Worker worker;
  for (int round = 0; round < 300; ++round) {
    const auto queue = std::make_shared<CompletionQueue>();
    const auto call = std::make_shared<Call>(Payload{});
    std::thread interrupter([&] { call->interrupt(); });
    put_aside(worker, call, queue);
    interrupter.join();
    CHECK(next_of(*queue) == call);
  }
}

TEST_CASE("the calls that a runner has put aside end together, or those of one actor, with its error") {
  Worker worker;
  const auto queue = std::make_shared<CompletionQueue>();
  const auto group = std::make_shared<CallGroup>("Desk");
  const auto of_actor = std::make_shared<Call>(Payload{}, group);
  const auto other = std::make_shared<Call>(Payload{});
  const auto done = std::make_shared<Call>(Payload{}, group);
  for (const auto& call : {of_actor, other, done}) put_aside(worker, call, queue);
  done->succeed({"value", {}});

  const Payload error{"closed", {}};
  Runner::interrupt_asides(worker.id(), group.get(), &error);
  CHECK(next_of(*queue) == of_actor);
  CHECK(next_of(*queue) == nullptr);
  CHECK(of_actor->state() == CallState::failed);
  CHECK(of_actor->result().data == "closed");
  CHECK(done->state() == CallState::succeeded);

  Runner::interrupt_asides(worker.id(), nullptr, nullptr);
  CHECK(next_of(*queue) == other);
  CHECK(other->state() == CallState::running);
  Runner::interrupt_asides(worker.id() + 1000, nullptr, nullptr);
}

TEST_CASE("a runner forgets the calls it has put aside when they are gone") {
  Worker worker;
  const auto queue = std::make_shared<CompletionQueue>();
  std::weak_ptr<Call> first;
  for (int i = 0; i < 1000; ++i) {
    const auto call = std::make_shared<Call>(Payload{});
    put_aside(worker, call, queue);
    if (i == 0) first = call;
    call->succeed({});
  }
  CHECK(first.expired());
  Runner::interrupt_asides(worker.id(), nullptr, nullptr);
  CHECK(next_of(*queue) == nullptr);
}

TEST_CASE("a call of a group that has ended counts as interrupted, and so is one that is put aside then") {
  Worker worker;
  const auto queue = std::make_shared<CompletionQueue>();
  const auto group = std::make_shared<CallGroup>("Desk");
  const auto call = std::make_shared<Call>(Payload{}, group);
  CHECK(!call->interrupted());
  group->ended.store(true);
  CHECK(call->interrupted());
  CHECK(call->killed());
  put_aside(worker, call, queue);
  CHECK(next_of(*queue) == call);
}

TEST_CASE("a worker gathers calls of the same batch until another one comes") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto elsewhere = dispatcher.open_mailbox({0});
  const auto first = posted(dispatcher, mailbox, "embed");
  const auto between = posted(dispatcher, elsewhere, "embed");
  const auto second = posted(dispatcher, mailbox, "embed");
  const auto cancelled = posted(dispatcher, mailbox, "other");
  const auto third = posted(dispatcher, mailbox, "embed");
  const auto other = posted(dispatcher, mailbox, "other");
  cancelled->cancel();
  CHECK(dispatcher.take(0).call == first);
  CHECK(dispatcher.take_more(0, mailbox, Clock::now() + 60s, first.get()) == second);
  CHECK(dispatcher.take_more(0, mailbox, Clock::now() + 60s, first.get()) == third);
  // It is the next one, so nothing that may come later is waited for.
  CHECK(dispatcher.take_more(0, mailbox, Clock::now() + 60s, first.get()) == nullptr);
  CHECK(dispatcher.take(0).call == between);
  CHECK(dispatcher.take(0).call == other);
}

TEST_CASE("nothing is gathered with a call that is of no batch") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto first = posted(dispatcher, mailbox, "");
  const auto second = posted(dispatcher, mailbox, "");
  CHECK(dispatcher.take(0).call == first);
  CHECK(dispatcher.take_more(0, mailbox, Clock::now() + 60s, first.get()) == nullptr);
  CHECK(dispatcher.take(0).call == second);
}

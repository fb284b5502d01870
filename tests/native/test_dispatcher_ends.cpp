// Interpreters that end, and those that take their seats.
#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "pool/dispatcher.h"
#include "posting.h"

using multipy::Call;
using multipy::CallState;
using multipy::ClosedError;
using multipy::Dispatcher;
using multipy::Payload;
using multipy::WaitResult;

namespace {

std::shared_ptr<Call> posted_with_retries(Dispatcher& dispatcher, Dispatcher::MailboxId mailbox, int retries) {
  auto call = std::make_shared<Call>(Payload{"request", {}});
  call->set_retries(retries);
  dispatcher.post(mailbox, call);
  return call;
}

std::shared_ptr<Call> taken(Dispatcher& dispatcher, std::size_t interpreter) {
  return dispatcher.take(interpreter).call;
}

}  // namespace

TEST_CASE("what only the interpreter that is replaced could take is returned, other calls wait") {
  Dispatcher dispatcher(2);
  const auto own = dispatcher.open_mailbox({0});
  const auto both = dispatcher.open_mailbox({0, 1});
  const auto outlives = dispatcher.open_mailbox({0}, 0, true);
  const auto lost = posted(dispatcher, own);
  const auto retried = posted_with_retries(dispatcher, own, 1);
  const auto shared = posted(dispatcher, both);
  const auto kept = posted(dispatcher, outlives);

  const auto calls = dispatcher.replace(0, 0);
  REQUIRE(calls.size() == 1);
  CHECK(calls.front() == lost);
  CHECK(lost->state() == CallState::pending);
  CHECK(dispatcher.queued(own) == 1);
  CHECK(taken(dispatcher, 0) == retried);
  CHECK(taken(dispatcher, 0) == shared);
  CHECK(taken(dispatcher, 0) == kept);
}

TEST_CASE("posts go on while an interpreter is replaced") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  dispatcher.replace(0, 0);
  const auto call = posted(dispatcher, mailbox);
  CHECK(taken(dispatcher, 0) == call);
}

TEST_CASE("what comes first is taken before all else, unless it has ended") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto queued = posted(dispatcher, mailbox);
  const auto ended = make_call();
  const auto first = make_call();
  REQUIRE(ended->cancel());
  dispatcher.put_first(0, {ended, first});
  CHECK(taken(dispatcher, 0) == first);
  CHECK(taken(dispatcher, 0) == queued);
}

TEST_CASE("what comes first is cancelled and retired with the rest") {
  Dispatcher dispatcher(1);
  dispatcher.put_first(0, {make_call()});
  CHECK(dispatcher.cancel_pending().size() == 1);
  dispatcher.put_first(0, {make_call()});
  CHECK(dispatcher.retire(0).size() == 1);
}

TEST_CASE("a call that is taken back runs again before those that came after it") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto first = posted_with_retries(dispatcher, mailbox, 1);
  const auto second = posted_with_retries(dispatcher, mailbox, 1);
  const auto third = posted(dispatcher, mailbox);
  for (const auto& call : {first, second}) {
    REQUIRE(taken(dispatcher, 0) == call);
    REQUIRE(call->start());
    CHECK(call->take_request().data == "request");
    REQUIRE(call->take_back());
  }
  CHECK(dispatcher.put_back(list_of({first, second})).empty());
  CHECK(dispatcher.queued(mailbox) == 3);
  CHECK(taken(dispatcher, 0) == first);
  CHECK(taken(dispatcher, 0) == second);
  CHECK(taken(dispatcher, 0) == third);
  REQUIRE(first->start());
  CHECK(first->take_request().data == "request");
  CHECK_FALSE(first->take_back());
  REQUIRE(first->succeed({"result", {}}));
  CHECK(first->request().data.empty());
}

TEST_CASE("a call whose mailbox is gone cannot be put back") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto call = posted_with_retries(dispatcher, mailbox, -1);
  REQUIRE(taken(dispatcher, 0) == call);
  REQUIRE(call->start());
  dispatcher.close_mailbox(mailbox);
  REQUIRE(call->take_back());
  CHECK(dispatcher.put_back(list_of({call})).size() == 1);
}

TEST_CASE("in a closed pool calls are put back for those that have not ended") {
  Dispatcher dispatcher(2);
  const auto mailbox = dispatcher.open_mailbox({0, 1}, 0, true);
  const auto call = posted_with_retries(dispatcher, mailbox, -1);
  REQUIRE(taken(dispatcher, 0) == call);
  REQUIRE(call->start());
  dispatcher.close();
  CHECK_FALSE(dispatcher.awaits_another(0));
  REQUIRE(call->take_back());
  CHECK(dispatcher.put_back(list_of({call})).empty());
  CHECK(dispatcher.awaits_another(0));
  CHECK(taken(dispatcher, 1) == call);
  CHECK_FALSE(dispatcher.awaits_another(0));
  CHECK(dispatcher.take(1).kind == Dispatcher::Delivery::closed);
  CHECK(dispatcher.put_back(list_of({call})).empty());
  CHECK(taken(dispatcher, 0) == call);
  CHECK(dispatcher.take(0).kind == Dispatcher::Delivery::closed);
  CHECK(dispatcher.put_back(list_of({call})).size() == 1);
  dispatcher.replace(0, 0);
  CHECK(dispatcher.put_back(list_of({call})).empty());
  CHECK(taken(dispatcher, 0) == call);
}

TEST_CASE("a call is not taken back that has ended, is to end or has no retries") {
  const auto call = std::make_shared<Call>(Payload{});
  REQUIRE(call->start());
  CHECK_FALSE(call->take_back());
  const auto ended = std::make_shared<Call>(Payload{});
  ended->set_retries(1);
  REQUIRE(ended->start());
  REQUIRE(ended->succeed({}));
  CHECK_FALSE(ended->take_back());
  const auto interrupted = std::make_shared<Call>(Payload{});
  interrupted->set_retries(1);
  REQUIRE(interrupted->start());
  interrupted->interrupt();
  CHECK_FALSE(interrupted->take_back());
}

TEST_CASE("who held the seat of an interpreter that is replaced holds it no more") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto granted = make_call();
  dispatcher.request(mailbox, granted, 7);
  std::thread worker([&] { dispatcher.take(0); });
  CHECK(granted->wait() == WaitResult::woken);
  CHECK(dispatcher.holds(7, 0));
  dispatcher.wake(0);
  worker.join();
  dispatcher.replace(0, 0);
  CHECK_FALSE(dispatcher.holds(7, 0));
}

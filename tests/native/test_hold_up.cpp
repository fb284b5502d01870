// What a dispatcher says of who holds up the end of an interpreter.
#include <doctest/doctest.h>

#include <memory>

#include "pool/dispatcher.h"
#include "posting.h"

using multipy::Call;
using multipy::Dispatcher;

TEST_CASE("an interpreter without a call owes nothing and is not needed") {
  Dispatcher dispatcher(1);
  dispatcher.open_mailbox({0});
  const auto found = dispatcher.hold_up(0);
  CHECK_FALSE(found.owes);
  CHECK_FALSE(found.is_needed);
  CHECK_FALSE(found.closed);
}

TEST_CASE("a queued call needs all that could take it, and is owed by who has taken it until it ends") {
  Dispatcher dispatcher(2);
  const auto call = posted(dispatcher, dispatcher.open_mailbox({0, 1}));
  CHECK(dispatcher.hold_up(0).is_needed);
  CHECK(dispatcher.hold_up(1).is_needed);
  dispatcher.take(0);
  call->start();
  CHECK(dispatcher.hold_up(0).owes);
  CHECK_FALSE(dispatcher.hold_up(0).is_needed);
  CHECK_FALSE(dispatcher.hold_up(1).owes);
  CHECK(dispatcher.in_hand(0).front() == call);
  call->succeed({});
  CHECK_FALSE(dispatcher.hold_up(0).owes);
}

TEST_CASE("an interpreter that is at a call that has expired has been given up, until it takes another") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto late = posted(dispatcher, mailbox);
  const auto next = posted(dispatcher, mailbox);
  dispatcher.take(0);
  late->start();
  CHECK_FALSE(dispatcher.hold_up(0).given_up);
  late->expire();
  const auto before = dispatcher.hold_up(0);
  CHECK(before.given_up);
  CHECK(before.is_needed);
  CHECK_FALSE(before.owes);
  dispatcher.take(0);
  const auto after = dispatcher.hold_up(0);
  CHECK_FALSE(after.given_up);
  CHECK(after.owes);
  CHECK(after.taken == before.taken + 1);
}

TEST_CASE("a call that nobody waits for is not owed, but can be given up on") {
  Dispatcher dispatcher(1);
  const auto call = make_call();
  call->expect_nobody();
  dispatcher.post(dispatcher.open_mailbox({0}), call);
  CHECK_FALSE(dispatcher.hold_up(0).is_needed);
  dispatcher.take(0);
  call->start();
  CHECK_FALSE(dispatcher.hold_up(0).owes);
  CHECK(dispatcher.in_hand(0).front() == call);
}

TEST_CASE("all calls of a batch are owed") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto first = posted(dispatcher, mailbox);
  const auto second = posted(dispatcher, mailbox);
  dispatcher.take(0);
  dispatcher.take_more(0, mailbox, multipy::Clock::now());
  first->start();
  second->start();
  first->succeed({});
  CHECK(dispatcher.hold_up(0).owes);
  second->succeed({});
  CHECK_FALSE(dispatcher.hold_up(0).owes);
}

TEST_CASE("an interpreter that was told that nothing will come is on its way to its end") {
  Dispatcher dispatcher(1);
  dispatcher.open_mailbox({0});
  dispatcher.close();
  CHECK_FALSE(dispatcher.hold_up(0).closed);
  dispatcher.take(0);
  CHECK(dispatcher.hold_up(0).closed);
}

// Calls without content, for tests of what hands them out.
#pragma once

#include <memory>

#include "pool/dispatcher.h"
#include "task/call.h"

inline std::shared_ptr<multipy::Call> make_call() { return std::make_shared<multipy::Call>(multipy::Payload{}); }

inline std::shared_ptr<multipy::Call> posted(multipy::Dispatcher& dispatcher, multipy::Dispatcher::MailboxId mailbox) {
  auto call = make_call();
  dispatcher.post(mailbox, call);
  return call;
}

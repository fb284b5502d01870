// Calls without content, for tests of what hands them out.
#pragma once

#include <initializer_list>
#include <memory>
#include <vector>

#include "pool/dispatcher.h"
#include "task/call.h"
#include "task/call_list.h"

inline std::shared_ptr<multipy::Call> make_call() { return std::make_shared<multipy::Call>(multipy::Payload{}); }

inline std::shared_ptr<multipy::Call> posted(multipy::Dispatcher& dispatcher, multipy::Dispatcher::MailboxId mailbox) {
  auto call = make_call();
  dispatcher.post(mailbox, call);
  return call;
}

using ListedCalls = std::vector<std::shared_ptr<multipy::Call>>;

inline ListedCalls all_of(const multipy::CallList& list) {
  ListedCalls calls;
  for (const auto& call : list) calls.push_back(call);
  return calls;
}

inline multipy::CallList list_of(std::initializer_list<std::shared_ptr<multipy::Call>> calls) {
  multipy::CallList list;
  for (const auto& call : calls) list.push_back(call);
  return list;
}

#include "task/call_list.h"

namespace multipy {

CallList::~CallList() {
  // One by one: links that went with each other would be as many calls of functions within each other.
  while (!empty()) pop_front();
}

void CallList::push_back(std::shared_ptr<Call> call) noexcept {
  Call* const added = call.get();
  (empty() ? first_ : last_->next_in_list_) = std::move(call);
  last_ = added;
  ++size_;
}

void CallList::push_front(std::shared_ptr<Call> call) noexcept {
  if (empty()) last_ = call.get();
  call->next_in_list_ = std::move(first_);
  first_ = std::move(call);
  ++size_;
}

std::shared_ptr<Call> CallList::pop_front() noexcept {
  std::shared_ptr<Call> call = std::move(first_);
  if (call == nullptr) return nullptr;
  first_ = std::move(call->next_in_list_);
  --size_;
  return call;
}

void CallList::append(CallList&& other) noexcept {
  if (other.empty()) return;
  (empty() ? first_ : last_->next_in_list_) = std::move(other.first_);
  last_ = other.last_;
  size_ += std::exchange(other.size_, 0);
}

}  // namespace multipy

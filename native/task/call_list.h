// Calls that were taken out of their queues.
//
// The links of this list are in the calls, so it needs no memory: where an interpreter ends or an actor is killed, for
// want of memory say, no call that waited for it may be forgotten. A call lies in one queue at most, and who takes it
// out of there may put it into one list.
//
// Threads: one at a time. A list that is destroyed lets go of its calls.
#pragma once

#include <cstddef>
#include <iterator>
#include <memory>
#include <utility>

#include "base/export.h"
#include "task/call.h"

namespace multipy {

class MULTIPY_API CallList {
 public:
  class Iterator {
   public:
    explicit Iterator(const std::shared_ptr<Call>* at) noexcept : at_(at) {}
    const std::shared_ptr<Call>& operator*() const noexcept { return *at_; }
    Iterator& operator++() noexcept {
      at_ = &(*at_)->next_in_list_;
      return *this;
    }
    bool operator==(std::default_sentinel_t) const noexcept { return *at_ == nullptr; }

   private:
    const std::shared_ptr<Call>* at_;
  };

  CallList() = default;
  CallList(CallList&& other) noexcept { append(std::move(other)); }
  CallList& operator=(CallList&&) = delete;
  ~CallList();

  bool empty() const noexcept { return first_ == nullptr; }
  std::size_t size() const noexcept { return size_; }
  const std::shared_ptr<Call>& front() const noexcept { return first_; }
  Iterator begin() const noexcept { return Iterator(&first_); }
  std::default_sentinel_t end() const noexcept { return {}; }

  void push_back(std::shared_ptr<Call> call) noexcept;
  void push_front(std::shared_ptr<Call> call) noexcept;
  std::shared_ptr<Call> pop_front() noexcept;
  /// Takes over what is in `other`, in its order.
  void append(CallList&& other) noexcept;
  /// Lets go of those of which `is_meant` holds.
  template <typename IsMeant>
  void remove_if(IsMeant is_meant) {
    CallList all(std::move(*this));
    while (auto call = all.pop_front()) {
      if (!is_meant(call)) push_back(std::move(call));
    }
  }

 private:
  std::shared_ptr<Call> first_;
  Call* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace multipy

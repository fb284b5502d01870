#include "elf/own_time_zone.h"

#include <utility>

namespace multipy::elf {

const TimeZone& OwnTimeZone::look() {
  const char* value = environment_.get("TZ");
  const std::lock_guard lock(mutex_);
  // The file behind no TZ at all may become another one, which few look for and no call should have to.
  if (zone_ != nullptr && (value == nullptr) == !looked_at_ && (value == nullptr || *looked_at_ == value))
    return *zone_;
  auto looked_at = value == nullptr ? std::nullopt : std::optional<std::string>(value);
  zone_ = &TimeZone::named(value, environment_.get("TZDIR"));
  looked_at_ = std::move(looked_at);
  names_[0] = const_cast<char*>(zone_->name(false));
  names_[1] = const_cast<char*>(zone_->name(true));
  seconds_west_ = -zone_->standard_offset();
  has_daylight_ = zone_->has_daylight() ? 1 : 0;
  return *zone_;
}

const TimeZone& OwnTimeZone::zone() {
  {
    const std::lock_guard lock(mutex_);
    if (zone_ != nullptr) return *zone_;
  }
  return look();
}

const TimeZone& OwnTimeZone::last() {
  static const TimeZone universal;
  const std::lock_guard lock(mutex_);
  return zone_ == nullptr ? universal : *zone_;
}

void* OwnTimeZone::variable(std::string_view name) {
  if (name.starts_with("__")) name.remove_prefix(2);
  if (name == "tzname") return names_;
  if (name == "timezone") return &seconds_west_;
  if (name == "daylight") return &has_daylight_;
  return nullptr;
}

}  // namespace multipy::elf

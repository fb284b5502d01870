#include "task/failure.h"

#include <string>

#include "base/message_pack.h"

namespace multipy {

Payload failure(std::string_view type, std::string_view text, std::string_view traceback) {
  message_pack::Output out;
  out.list(4);
  out.none();
  out.text(type);
  out.text(text);
  out.text(traceback);
  return {out.take(), {}};
}

Payload own_failure(std::string_view name, std::string_view text) {
  return failure("multipy_actors.errors." + std::string(name), text);
}

}  // namespace multipy

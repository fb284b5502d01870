// What errors say; see multipy_actors/errors.h.
#include "multipy_actors/errors.h"

#include <utility>

namespace multipy_actors {

namespace {

std::string describe(const std::string& type, const std::string& message, const std::string& traceback) {
  std::string text = message.empty() ? type : type + ": " + message;
  if (!traceback.empty()) text += "\n\n" + traceback;
  return text;
}

}  // namespace

Error::~Error() = default;
StartError::~StartError() = default;
ClosedError::~ClosedError() = default;
SessionError::~SessionError() = default;
ConversionError::~ConversionError() = default;
DeadlockError::~DeadlockError() = default;
CancelledError::~CancelledError() = default;

RemoteError::RemoteError(std::string type, std::string message, std::string traceback)
    : Error(describe(type, message, traceback)),
      type_(std::move(type)),
      message_(std::move(message)),
      traceback_(std::move(traceback)) {}
RemoteError::~RemoteError() = default;

}  // namespace multipy_actors

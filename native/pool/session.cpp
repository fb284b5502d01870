#include "pool/session.h"

#include <utility>

#include "base/error.h"

namespace multipy {

std::shared_ptr<Session> Session::request(std::shared_ptr<Pool> pool, std::optional<std::size_t> interpreter) {
  const auto session = std::make_shared<Session>(std::move(pool));
  const auto mailbox = interpreter ? session->pool_->own_mailbox(*interpreter) : session->pool_->any_mailbox();
  session->granted_->set_holdings(session->holding_->outer);
  session->pool_->dispatcher().request(mailbox, session->granted_, session->id());
  set_current_holdings(session->holding_);
  return session;
}

Session::Session(std::shared_ptr<Pool> pool)
    : pool_(std::move(pool)),
      ended_(std::make_shared<std::atomic<bool>>(false)),
      holding_(std::make_shared<const Holding>(Holding{new_session(), ended_, without_ended(current_holdings())})),
      granted_(std::make_shared<Call>(Payload{})) {}

Session::~Session() { end(); }

std::shared_ptr<Call> Session::post(Payload request) {
  if (ended()) throw ClosedError("the session has ended");
  if (pool_->restarts() && !pool_->closed() && !pool_->dispatcher().holds(id(), interpreter()))
    throw ClosedError("the interpreter that the session held has ended");
  auto call = std::make_shared<Call>(std::move(request));
  call->set_holdings(holding_);
  pool_->dispatcher().post(pool_->own_mailbox(interpreter()), call);
  return call;
}

void Session::end() noexcept {
  if (ended_->exchange(true)) return;
  // In a forked child nobody is there to be let go, and any lock may be held for good.
  if (pool_->is_lost()) return;
  if (!granted_->cancel()) pool_->dispatcher().release(id());
}

}  // namespace multipy

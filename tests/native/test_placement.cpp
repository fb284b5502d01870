// The choice among idle interpreters.
#include <doctest/doctest.h>

#include <limits>

#include "pool/placement.h"

using multipy::LeastLoaded;

TEST_CASE("nobody is chosen where nobody is idle") { CHECK_FALSE(LeastLoaded{}.choice().has_value()); }

TEST_CASE("the only idle interpreter is chosen, whatever its load") {
  LeastLoaded policy;
  policy.consider(7, std::numeric_limits<std::uint64_t>::max());
  CHECK(policy.choice() == 7);
}

TEST_CASE("the least loaded interpreter is chosen, wherever it stands in the row") {
  for (const std::size_t best : {0, 1, 2}) {
    LeastLoaded policy;
    for (std::size_t interpreter = 0; interpreter < 3; ++interpreter) {
      policy.consider(interpreter, interpreter == best ? 1 : 2);
    }
    CHECK(policy.choice() == best);
  }
}

TEST_CASE("the lowest index wins a tie, in whatever order they are shown") {
  LeastLoaded rising;
  rising.consider(1, 5);
  rising.consider(2, 5);
  CHECK(rising.choice() == 1);
  LeastLoaded falling;
  falling.consider(2, 5);
  falling.consider(1, 5);
  CHECK(falling.choice() == 1);
}

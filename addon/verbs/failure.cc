#include "failure.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstring>

namespace backdoors::verbs {

namespace {

std::string MemlockLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return std::to_string(limit.rlim_cur / 1024) + " KiB";
}

// Regions and the queues of completion queues and queue pairs are all locked in memory, so the limit shows in each.
bool LocksMemory(const char* call) {
  return std::strcmp(call, "ibv_reg_mr") == 0 || std::strcmp(call, "ibv_create_cq") == 0 ||
         std::strcmp(call, "ibv_create_qp") == 0;
}

}  // namespace

Failure CallFailed(const char* call, int error_number, const std::string& doing) {
  Failure failure;
  failure.details.call = call;
  failure.details.error_number = error_number;
  const std::string limit = MemlockLimit();
  if (LocksMemory(call) && (error_number == ENOMEM || error_number == EAGAIN) && limit != "unlimited") {
    failure.code = "MEMLOCK_LIMIT";
    failure.message = doing + ": the limit on locked memory (ulimit -l) is " + limit +
                      "; raise it, for a service by LimitMEMLOCK=infinity";
    return failure;
  }
  failure.code = "VERBS_CALL_FAILED";
  failure.message = doing + ": " + call + ": " + ErrnoText(error_number);
  return failure;
}

}  // namespace backdoors::verbs

#include "wc_status.h"

#include <cstddef>
#include <iterator>

namespace backdoors::verbs {

namespace {

struct Status {
  const char* name;
  const char* meaning;
};

// In the order of enum ibv_wc_status.
constexpr Status kStatuses[] = {
    {"WC_SUCCESS", "it succeeded"},
    {"WC_LOC_LEN_ERR", "the local buffer and the message differ in length"},
    {"WC_LOC_QP_OP_ERR", "the queue pair cannot do this operation: more reads outstanding than agreed, or a bad request"},
    {"WC_LOC_EEC_OP_ERR", "a local error of the end-to-end context"},
    {"WC_LOC_PROT_ERR", "the local buffer does not lie in a memory region that may be written"},
    {"WC_WR_FLUSH_ERR", "the queue pair had ended before the request was carried out"},
    {"WC_MW_BIND_ERR", "a memory window could not be bound"},
    {"WC_BAD_RESP_ERR", "the peer's answer made no sense"},
    {"WC_LOC_ACCESS_ERR", "the peer wrote where this side does not allow it"},
    {"WC_REM_INV_REQ_ERR", "the peer's device found the request invalid"},
    {"WC_REM_ACCESS_ERR", "the peer's device refused it: the rkey is not valid (any more), the range is outside of what "
                          "it stands for, or that kind of access is not lent"},
    {"WC_REM_OP_ERR", "the peer's device could not carry it out"},
    {"WC_RETRY_EXC_ERR", "the peer did not answer, however often it was asked: it or the network is down, or it has "
                         "ended its queue pair"},
    {"WC_RNR_RETRY_EXC_ERR", "the peer's queue pair was never ready to receive"},
    {"WC_LOC_RDD_VIOL_ERR", "the reliable datagram domains differ"},
    {"WC_REM_INV_RD_REQ_ERR", "the peer's device found the reliable datagram request invalid"},
    {"WC_REM_ABORT_ERR", "the peer aborted the operation"},
    {"WC_INV_EECN_ERR", "the end-to-end context's number is not valid"},
    {"WC_INV_EEC_STATE_ERR", "the end-to-end context is in the wrong state"},
    {"WC_FATAL_ERR", "the device has failed"},
    {"WC_RESP_TIMEOUT_ERR", "the peer did not respond in time"},
    {"WC_GENERAL_ERR", "the device gave no reason"},
    {"WC_TM_ERR", "tag matching failed"},
    {"WC_TM_RNDV_INCOMPLETE", "tag matching left the message incomplete"},
};

static_assert(std::size(kStatuses) == IBV_WC_TM_RNDV_INCOMPLETE + 1, "one line for each status");
static_assert(IBV_WC_RETRY_EXC_ERR == 12 && IBV_WC_GENERAL_ERR == 21, "in the order of enum ibv_wc_status");

const Status& Find(ibv_wc_status status) {
  const auto index = static_cast<size_t>(status);
  return index < std::size(kStatuses) ? kStatuses[index] : kStatuses[IBV_WC_GENERAL_ERR];
}

}  // namespace

const char* StatusName(ibv_wc_status status) { return Find(status).name; }

const char* StatusMeaning(ibv_wc_status status) { return Find(status).meaning; }

const char* OpcodeName(ibv_wr_opcode opcode) {
  switch (opcode) {
    case IBV_WR_RDMA_READ:
      return "READ";
    case IBV_WR_RDMA_WRITE:
      return "WRITE";
    case IBV_WR_ATOMIC_CMP_AND_SWP:
      return "compare-and-swap";
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
      return "fetch-and-add";
    default:
      return "work request";
  }
}

}  // namespace backdoors::verbs

// RESET → INIT → RTR → RTS, with every attribute checked against a table first: the device itself says no more than
// EINVAL, whichever attribute it is about.

#include <cerrno>
#include <string>
#include <utility>

#include "queue_pair.h"

namespace backdoors::verbs {

namespace {

struct Attribute {
  int mask;
  const char* name;
  // Null where any value will do.
  uint32_t (*value)(const ibv_qp_attr&);
};

// What the value of an attribute must not exceed, on this device and port.
struct Limits {
  ibv_device_attr device{};
  ibv_port_attr port{};
};

constexpr uint32_t kTwentyFourBits = 0xff'ffff;

constexpr Attribute kAttributes[] = {
    {IBV_QP_STATE, "qp_state", nullptr},
    {IBV_QP_ACCESS_FLAGS, "qp_access_flags", nullptr},
    {IBV_QP_PKEY_INDEX, "pkey_index", [](const ibv_qp_attr& it) { return uint32_t{it.pkey_index}; }},
    {IBV_QP_PORT, "port_num", [](const ibv_qp_attr& it) { return uint32_t{it.port_num}; }},
    {IBV_QP_AV, "ah_attr.grh.sgid_index", [](const ibv_qp_attr& it) { return uint32_t{it.ah_attr.grh.sgid_index}; }},
    {IBV_QP_PATH_MTU, "path_mtu", [](const ibv_qp_attr& it) { return static_cast<uint32_t>(it.path_mtu); }},
    {IBV_QP_TIMEOUT, "timeout", [](const ibv_qp_attr& it) { return uint32_t{it.timeout}; }},
    {IBV_QP_RETRY_CNT, "retry_cnt", [](const ibv_qp_attr& it) { return uint32_t{it.retry_cnt}; }},
    {IBV_QP_RNR_RETRY, "rnr_retry", [](const ibv_qp_attr& it) { return uint32_t{it.rnr_retry}; }},
    {IBV_QP_RQ_PSN, "rq_psn", [](const ibv_qp_attr& it) { return it.rq_psn; }},
    {IBV_QP_MAX_QP_RD_ATOMIC, "max_rd_atomic", [](const ibv_qp_attr& it) { return uint32_t{it.max_rd_atomic}; }},
    {IBV_QP_MIN_RNR_TIMER, "min_rnr_timer", [](const ibv_qp_attr& it) { return uint32_t{it.min_rnr_timer}; }},
    {IBV_QP_SQ_PSN, "sq_psn", [](const ibv_qp_attr& it) { return it.sq_psn; }},
    {IBV_QP_MAX_DEST_RD_ATOMIC, "max_dest_rd_atomic",
     [](const ibv_qp_attr& it) { return uint32_t{it.max_dest_rd_atomic}; }},
    {IBV_QP_DEST_QPN, "dest_qp_num", [](const ibv_qp_attr& it) { return it.dest_qp_num; }},
};

// What each transition of an RC queue pair needs; more than that is not allowed either.
struct Transition {
  ibv_qp_state to;
  const char* name;
  int mask;
};

constexpr Transition kToInit = {IBV_QPS_INIT, "RESET to INIT",
                                IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS};
constexpr Transition kToReadyToReceive = {IBV_QPS_RTR, "INIT to RTR",
                                          IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                                              IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER};
constexpr Transition kToReadyToSend = {IBV_QPS_RTS, "RTR to RTS",
                                       IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                                           IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC};

std::pair<uint32_t, uint32_t> BoundsOf(int mask, const Limits& limits) {
  switch (mask) {
    case IBV_QP_PKEY_INDEX:
      return {0, limits.port.pkey_tbl_len == 0 ? 0 : uint32_t{limits.port.pkey_tbl_len} - 1};
    case IBV_QP_PORT:
      return {1, limits.device.phys_port_cnt};
    case IBV_QP_AV:
      return {0, limits.port.gid_tbl_len <= 0 ? 0 : static_cast<uint32_t>(limits.port.gid_tbl_len) - 1};
    case IBV_QP_PATH_MTU:
      return {IBV_MTU_256, limits.port.active_mtu};
    case IBV_QP_MAX_QP_RD_ATOMIC:
      return {1, static_cast<uint32_t>(limits.device.max_qp_init_rd_atom)};
    case IBV_QP_MAX_DEST_RD_ATOMIC:
      return {1, static_cast<uint32_t>(limits.device.max_qp_rd_atom)};
    case IBV_QP_TIMEOUT:
    case IBV_QP_MIN_RNR_TIMER:
      return {0, 31};
    case IBV_QP_RETRY_CNT:
    case IBV_QP_RNR_RETRY:
      return {0, 7};
    case IBV_QP_DEST_QPN:
      // 0 and 1 are the queue pairs of the fabric's own management.
      return {2, kTwentyFourBits};
    default:
      return {0, kTwentyFourBits};
  }
}

// The first attribute that lies outside of its bounds, in words; empty if none does.
std::string Explain(const Transition& transition, const ibv_qp_attr& attributes, const Limits& limits) {
  for (const Attribute& attribute : kAttributes) {
    if ((transition.mask & attribute.mask) == 0 || attribute.value == nullptr) continue;
    const auto [least, most] = BoundsOf(attribute.mask, limits);
    const uint32_t value = attribute.value(attributes);
    if (value >= least && value <= most) continue;
    std::string text = std::string(attribute.name) + " is " + std::to_string(value) + ", but may be " +
                       std::to_string(least) + " to " + std::to_string(most);
    if (attribute.mask == IBV_QP_PATH_MTU) text += " (in the verbs' encoding: 1 is 256 bytes, 5 is 4096)";
    return text + " on this device";
  }
  return "";
}

const char* Hint(const Transition& transition, int error_number) {
  if (transition.to == IBV_QPS_RTR && (error_number == ETIMEDOUT || error_number == ENETUNREACH || error_number == EHOSTUNREACH)) {
    return "; the peer's GID cannot be reached from this port: are both GIDs RoCE v2, of the same network?";
  }
  if (transition.to == IBV_QPS_RTR && error_number == EINVAL) return "; is the chosen GID index in use on this port?";
  return "";
}

bool Refuse(const Transition& transition, const QueuePair& pair, const std::string& why, Failure* failure) {
  failure->code = "QP_TRANSITION";
  failure->details.peer = pair.options().peer;
  failure->details.queue_pair = pair.number();
  failure->message = "queue pair " + std::to_string(pair.number()) + " to " + pair.options().peer + ", " +
                     transition.name + ": " + why;
  return false;
}

bool QueryLimits(ibv_context* context, uint8_t port, Limits* limits, Failure* failure) {
  int error = ibv_query_device(context, &limits->device);
  if (error != 0) {
    *failure = CallFailed("ibv_query_device", error, "asking the device for its limits");
    return false;
  }
  // A port that does not exist has no attributes; the table then names port_num.
  if (port < 1 || port > limits->device.phys_port_cnt) return true;
  error = ibv_query_port(context, port, &limits->port);
  if (error != 0) *failure = CallFailed("ibv_query_port", error, "asking port " + std::to_string(port) + " for its limits");
  return error == 0;
}

bool Move(ibv_qp* raw, const QueuePair& pair, const Transition& transition, ibv_qp_attr attributes,
          const Limits& limits, Failure* failure) {
  attributes.qp_state = transition.to;
  const std::string fault = Explain(transition, attributes, limits);
  if (!fault.empty()) return Refuse(transition, pair, fault, failure);
  const int error = ibv_modify_qp(raw, &attributes, transition.mask);
  if (error == 0) return true;
  failure->details.call = "ibv_modify_qp";
  failure->details.error_number = error;
  return Refuse(transition, pair, ErrnoText(error) + Hint(transition, error), failure);
}

ibv_mtu MtuOf(uint32_t bytes) {
  for (int mtu = IBV_MTU_256; mtu <= IBV_MTU_4096; ++mtu) {
    if (bytes == 128U << mtu) return static_cast<ibv_mtu>(mtu);
  }
  return static_cast<ibv_mtu>(0);
}

ibv_qp_attr AttributesOf(const QueuePairOptions& options, const QueuePairConnection& remote, bool ethernet) {
  ibv_qp_attr attributes{};
  attributes.path_mtu = MtuOf(remote.mtu);
  attributes.dest_qp_num = remote.qpn;
  attributes.rq_psn = remote.psn;
  attributes.max_dest_rd_atomic = remote.max_dest_rd_atomic;
  attributes.max_rd_atomic = remote.max_rd_atomic;
  attributes.min_rnr_timer = options.min_rnr_timer;
  attributes.timeout = options.timeout;
  attributes.retry_cnt = options.retry_count;
  attributes.rnr_retry = options.rnr_retry;
  attributes.sq_psn = options.psn;
  attributes.ah_attr.port_num = options.port;
  attributes.ah_attr.sl = options.service_level;
  attributes.ah_attr.dlid = remote.lid;
  // RoCE has no other addresses than GIDs; InfiniBand needs them between subnets only, but takes them always.
  attributes.ah_attr.is_global = ethernet || remote.gid.global.interface_id != 0 ? 1 : 0;
  attributes.ah_attr.grh.dgid = remote.gid;
  attributes.ah_attr.grh.sgid_index = options.gid_index;
  attributes.ah_attr.grh.hop_limit = options.hop_limit;
  attributes.ah_attr.grh.traffic_class = options.traffic_class;
  return attributes;
}

}  // namespace

bool QueuePair::Initialize(Failure* failure) {
  Limits limits;
  if (!QueryLimits(domain_->context().get(), options_.port, &limits, failure)) return false;
  ibv_qp_attr attributes{};
  attributes.port_num = options_.port;
  attributes.pkey_index = options_.pkey_index;
  attributes.qp_access_flags = options_.access;
  return Move(pair_, *this, kToInit, attributes, limits, failure);
}

bool QueuePair::Connect(const QueuePairConnection& remote, Failure* failure) {
  const std::lock_guard lock(queue_->mutex());
  if (failure_ != nullptr) {
    *failure = *failure_;
    return false;
  }
  Limits limits;
  if (!QueryLimits(domain_->context().get(), options_.port, &limits, failure)) return false;
  const bool ethernet = limits.port.link_layer == IBV_LINK_LAYER_ETHERNET;
  const ibv_qp_attr attributes = AttributesOf(options_, remote, ethernet);
  return Move(pair_, *this, kToReadyToReceive, attributes, limits, failure) &&
         Move(pair_, *this, kToReadyToSend, attributes, limits, failure);
}

}  // namespace backdoors::verbs

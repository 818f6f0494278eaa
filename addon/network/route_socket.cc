#include "route_socket.h"

#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace backdoors::network {

namespace {

constexpr size_t kIpv4Bytes = 4;
constexpr size_t kMaxAddressBytes = 16;
// The kernel answers before sendto returns; a socket that says nothing all the same must not stop the event loop.
constexpr timeval kPatience = {.tv_sec = 1, .tv_usec = 0};

// RTM_NEWADDR or RTM_DELADDR: a header, what is common to all addresses, and attributes.
struct Request {
  nlmsghdr header = {};
  ifaddrmsg message = {};
  std::array<uint8_t, 2 * RTA_SPACE(kMaxAddressBytes) + RTA_SPACE(sizeof(uint32_t))> attributes = {};
};
static_assert(offsetof(Request, message) == NLMSG_HDRLEN);
static_assert(offsetof(Request, attributes) == NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(ifaddrmsg)));

void Append(Request* request, uint16_t type, const void* data, size_t length) {
  const size_t at = request->header.nlmsg_len - offsetof(Request, attributes);
  const rtattr attribute = {.rta_len = static_cast<uint16_t>(RTA_LENGTH(length)), .rta_type = type};
  std::memcpy(request->attributes.data() + at, &attribute, sizeof attribute);
  std::memcpy(request->attributes.data() + at + RTA_LENGTH(0), data, length);
  request->header.nlmsg_len += static_cast<uint32_t>(RTA_SPACE(length));
}

}  // namespace

int RouteSocket::Open() {
  fd_ = FileDescriptor(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd_) return errno;
  return setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience) == 0 ? 0 : errno;
}

int RouteSocket::Add(const InterfaceAddress& address) { return Change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address); }

int RouteSocket::Remove(const InterfaceAddress& address) { return Change(RTM_DELADDR, 0, address); }

int RouteSocket::Change(uint16_t type, uint16_t flags, const InterfaceAddress& address) {
  const bool is_ipv4 = address.bytes.size() == kIpv4Bytes;
  Request request;
  request.header.nlmsg_len = offsetof(Request, attributes);
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  request.header.nlmsg_seq = ++sequence_;
  request.message.ifa_family = is_ipv4 ? AF_INET : AF_INET6;
  request.message.ifa_prefixlen = address.prefix_length;
  request.message.ifa_scope = RT_SCOPE_UNIVERSE;
  request.message.ifa_index = static_cast<uint32_t>(address.interface_index);
  Append(&request, IFA_LOCAL, address.bytes.data(), address.bytes.size());
  Append(&request, IFA_ADDRESS, address.bytes.data(), address.bytes.size());
  if (!is_ipv4 && type == RTM_NEWADDR) {
    // Duplicate address detection takes a second, in which the address answers nobody.
    const uint32_t address_flags = IFA_F_NODAD;
    Append(&request, IFA_FLAGS, &address_flags, sizeof address_flags);
  }
  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do {
    sent = sendto(fd_.get(), &request, request.header.nlmsg_len, 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : ReadAnswer(request.header.nlmsg_seq);
}

int RouteSocket::ReadAnswer(uint32_t sequence) {
  for (;;) {
    alignas(nlmsghdr) std::array<uint8_t, 4096> buffer;
    sockaddr_nl from = {};
    socklen_t from_bytes = sizeof from;
    const ssize_t count =
        recvfrom(fd_.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &from_bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN ? ETIMEDOUT : errno;
    // Any process may send to a netlink socket; the kernel's number is 0.
    if (from.nl_pid != 0 || static_cast<size_t>(count) < NLMSG_HDRLEN + sizeof(int32_t)) continue;
    nlmsghdr header;
    std::memcpy(&header, buffer.data(), sizeof header);
    if (header.nlmsg_seq != sequence || header.nlmsg_type != NLMSG_ERROR) continue;
    int32_t error = 0;
    std::memcpy(&error, buffer.data() + NLMSG_HDRLEN, sizeof error);
    return -error;
  }
}

}  // namespace backdoors::network

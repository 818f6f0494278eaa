#include "raw_sender.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace backdoors::network {

namespace {

constexpr int kTcpChecksumAt = 16;

}  // namespace

int RawSender::Open(sa_family_t family, FileDescriptor* fd, const char** call) {
  const bool is_ipv4 = family == AF_INET;
  *call = "socket";
  const int icmp = is_ipv4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6};
  const int protocol = kind_ == Kind::kTcp ? int{IPPROTO_TCP} : icmp;
  *fd = FileDescriptor(socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
  if (!*fd) return errno;
  if (kind_ == Kind::kTcp && !is_ipv4) {
    *call = "IPV6_CHECKSUM";
    if (setsockopt(fd->get(), IPPROTO_IPV6, IPV6_CHECKSUM, &kTcpChecksumAt, sizeof kTcpChecksumAt) != 0) return errno;
  }
  const int on = 1;
  *call = is_ipv4 ? "IP_TRANSPARENT" : "IPV6_TRANSPARENT";
  const int level = is_ipv4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6};
  const int option = is_ipv4 ? IP_TRANSPARENT : IPV6_TRANSPARENT;
  return setsockopt(fd->get(), level, option, &on, sizeof on) == 0 ? 0 : errno;
}

int RawSender::Send(const sockaddr_storage& from, const sockaddr_storage& to, std::span<const uint8_t> message, const char** call) {
  const bool is_ipv4 = from.ss_family == AF_INET;
  FileDescriptor& fd = is_ipv4 ? ipv4_ : ipv6_;
  if (!fd) {
    const int error = Open(from.ss_family, &fd, call);
    if (error != 0) {
      fd.Reset();
      return error;
    }
  }
  sockaddr_storage target = to;
  // A raw socket takes a port for a protocol.
  if (!is_ipv4) reinterpret_cast<sockaddr_in6*>(&target)->sin6_port = 0;
  iovec part = {const_cast<uint8_t*>(message.data()), message.size()};
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(sizeof(in6_pktinfo))> control = {};
  msghdr header = {};
  header.msg_name = &target;
  header.msg_namelen = is_ipv4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = is_ipv4 ? CMSG_SPACE(sizeof(in_pktinfo)) : CMSG_SPACE(sizeof(in6_pktinfo));
  cmsghdr* source = CMSG_FIRSTHDR(&header);
  source->cmsg_level = is_ipv4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6};
  source->cmsg_type = is_ipv4 ? IP_PKTINFO : IPV6_PKTINFO;
  if (is_ipv4) {
    in_pktinfo info = {};
    info.ipi_spec_dst = reinterpret_cast<const sockaddr_in&>(from).sin_addr;
    source->cmsg_len = CMSG_LEN(sizeof info);
    std::memcpy(CMSG_DATA(source), &info, sizeof info);
  } else {
    in6_pktinfo info = {};
    info.ipi6_addr = reinterpret_cast<const sockaddr_in6&>(from).sin6_addr;
    source->cmsg_len = CMSG_LEN(sizeof info);
    std::memcpy(CMSG_DATA(source), &info, sizeof info);
  }
  *call = "sendmsg";
  ssize_t sent;
  do {
    sent = sendmsg(fd.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

}  // namespace backdoors::network

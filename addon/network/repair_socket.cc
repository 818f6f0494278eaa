#include "repair_socket.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace backdoors::network {

namespace {

// Kinds of options, as in a segment's header (RFC 9293, RFC 7323, RFC 2018).
constexpr uint32_t kOptionMss = 2;
constexpr uint32_t kOptionWindow = 3;
constexpr uint32_t kOptionSackPermitted = 4;
constexpr uint32_t kOptionTimestamp = 8;
constexpr int kReceiveScaleShift = 16;

// Smaller queues and windows fit into the buffers that a socket has from the beginning.
constexpr size_t kOrdinaryBytes = 8 * 1024;
constexpr size_t kMostBufferBytes = 64 * 1024 * 1024;

// Of linux/socket.h; a kernel before 5.14 has it not.
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

int Set(int fd, int level, int option, const void* value, size_t bytes) {
  return setsockopt(fd, level, option, value, static_cast<socklen_t>(bytes)) == 0 ? 0 : errno;
}

int Set(int fd, int level, int option, int value) { return Set(fd, level, option, &value, sizeof value); }

}  // namespace

int RepairSocket::SetNumber(int level, int option, const char* call, int value) {
  call_ = call;
  return Set(fd_.get(), level, option, value);
}

int RepairSocket::Restore(const TcpConnection& connection, const char** call) {
  int error = Open(connection);
  if (error == 0) error = MakeRoom(connection);
  if (error == 0) error = Connect(connection);
  if (error == 0) error = SetAgreement(connection);
  if (error == 0) error = FillQueues(connection);
  if (error == 0) error = SetWindow(connection.window);
  *call = call_;
  // Closed under repair, it goes without a word.
  if (error != 0) fd_.Reset();
  return error;
}

int RepairSocket::Open(const TcpConnection& connection) {
  const bool is_ipv4 = connection.local.ss_family == AF_INET;
  call_ = "socket";
  fd_ = FileDescriptor(socket(connection.local.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!fd_) return errno;
  const int error = SetNumber(IPPROTO_TCP, TCP_REPAIR, "TCP_REPAIR", TCP_REPAIR_ON);
  if (error != 0) return error;
  // The address comes to this machine when all sockets stand.
  return is_ipv4 ? SetNumber(IPPROTO_IP, IP_TRANSPARENT, "IP_TRANSPARENT", 1)
                 : SetNumber(IPPROTO_IPV6, IPV6_TRANSPARENT, "IPV6_TRANSPARENT", 1);
}

// What the peer was promised room for, and what has not been acknowledged, may be more than a new socket holds.
int RepairSocket::MakeRoom(const TcpConnection& connection) {
  const auto size = [](size_t bytes) { return static_cast<int>(std::min(bytes, kMostBufferBytes)); };
  const size_t to_receive = connection.unread.size() + connection.window.rcv_wnd;
  const size_t to_send = connection.unacknowledged.size();
  int error = 0;
  if (to_receive > kOrdinaryBytes) error = SetNumber(SOL_SOCKET, SO_RCVBUFFORCE, "SO_RCVBUFFORCE", size(2 * to_receive));
  if (error == 0 && to_send > kOrdinaryBytes) {
    error = SetNumber(SOL_SOCKET, SO_SNDBUFFORCE, "SO_SNDBUFFORCE", size(2 * to_send + kOrdinaryBytes));
  }
  // From here on the kernel sizes them again as it sees fit. Older kernels keep them as they are, which is no harm.
  Set(fd_.get(), SOL_SOCKET, SO_BUF_LOCK, 0);
  return error;
}

int RepairSocket::Connect(const TcpConnection& connection) {
  const auto unread = static_cast<uint32_t>(connection.unread.size());
  int error = SetNumber(IPPROTO_TCP, TCP_REPAIR_QUEUE, "TCP_REPAIR_QUEUE", TCP_RECV_QUEUE);
  if (error == 0) error = SetNumber(IPPROTO_TCP, TCP_QUEUE_SEQ, "TCP_QUEUE_SEQ", static_cast<int>(connection.rcv_nxt - unread));
  if (error == 0) error = SetNumber(IPPROTO_TCP, TCP_REPAIR_QUEUE, "TCP_REPAIR_QUEUE", TCP_SEND_QUEUE);
  if (error == 0) error = SetNumber(IPPROTO_TCP, TCP_QUEUE_SEQ, "TCP_QUEUE_SEQ", static_cast<int>(connection.snd_una));
  if (error != 0) return error;
  const auto* local = reinterpret_cast<const sockaddr*>(&connection.local);
  const auto* remote = reinterpret_cast<const sockaddr*>(&connection.remote);
  call_ = "bind";
  if (bind(fd_.get(), local, AddressBytes(connection.local)) != 0) return errno;
  // Under repair nothing is sent: the socket is connected at once.
  call_ = "connect";
  return connect(fd_.get(), remote, AddressBytes(connection.remote)) == 0 ? 0 : errno;
}

// What both ends had agreed to when they connected.
int RepairSocket::SetAgreement(const TcpConnection& connection) {
  std::array<tcp_repair_opt, 4> options = {};
  size_t count = 0;
  options[count++] = {kOptionMss, connection.mss_clamp};
  if (connection.window_scale) {
    const uint32_t receive = connection.window_scale->receive;
    options[count++] = {kOptionWindow, connection.window_scale->send | (receive << kReceiveScaleShift)};
  }
  if (connection.sack) options[count++] = {kOptionSackPermitted, 0};
  if (connection.timestamp) options[count++] = {kOptionTimestamp, 0};
  call_ = "TCP_REPAIR_OPTIONS";
  const int error = Set(fd_.get(), IPPROTO_TCP, TCP_REPAIR_OPTIONS, options.data(), count * sizeof options[0]);
  if (error != 0 || !connection.timestamp) return error;
  return SetNumber(IPPROTO_TCP, TCP_TIMESTAMP, "TCP_TIMESTAMP", static_cast<int>(*connection.timestamp));
}

int RepairSocket::FillQueues(const TcpConnection& connection) {
  const std::span all(connection.unacknowledged);
  const auto sent = all.first(connection.sent());
  const auto unsent = all.subspan(connection.sent());
  int error = SetNumber(IPPROTO_TCP, TCP_REPAIR_QUEUE, "TCP_REPAIR_QUEUE", TCP_RECV_QUEUE);
  if (error == 0) error = Fill(connection.unread);
  if (error == 0) error = SetNumber(IPPROTO_TCP, TCP_REPAIR_QUEUE, "TCP_REPAIR_QUEUE", TCP_SEND_QUEUE);
  if (error == 0) error = Fill(sent);
  if (error != 0 || unsent.empty()) return error;
  // What is written under repair counts as sent. So repair is off for as long as it takes, with no window to send into.
  tcp_repair_window closed = connection.window;
  closed.snd_wnd = 0;
  error = SetWindow(closed);
  if (error == 0) error = SetNumber(IPPROTO_TCP, TCP_REPAIR, "TCP_REPAIR", TCP_REPAIR_OFF_NO_WP);
  if (error == 0) error = Fill(unsent);
  const int failed = error;
  const char* call = call_;
  error = SetNumber(IPPROTO_TCP, TCP_REPAIR, "TCP_REPAIR", TCP_REPAIR_ON);
  if (failed != 0) call_ = call;
  return failed != 0 ? failed : error;
}

int RepairSocket::Fill(std::span<const uint8_t> bytes) {
  call_ = "send";
  while (!bytes.empty()) {
    const ssize_t taken = send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (taken < 0 && errno == EINTR) continue;
    if (taken < 0) return errno;
    bytes = bytes.subspan(static_cast<size_t>(taken));
  }
  return 0;
}

int RepairSocket::SetWindow(const tcp_repair_window& window) {
  call_ = "TCP_REPAIR_WINDOW";
  return Set(fd_.get(), IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window);
}

int RepairSocket::Activate(int fd, const char** call) {
  *call = "TCP_REPAIR";
  const int error = Set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF);
  if (error != 0) return error;
  // As a socket has it that a server accepted: or no server could listen on the port while the connection lasts.
  *call = "SO_REUSEADDR";
  return Set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

int RepairSocket::Reset(int fd, const char** call) {
  const FileDescriptor owned(fd);
  *call = "TCP_REPAIR";
  const int error = Set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
  *call = error == 0 ? "SO_LINGER" : *call;
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  const int lingering = Set(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  // Now, and not when the last process closes it that was given it. One that cannot be disconnected is reset then.
  const sockaddr nobody = {.sa_family = AF_UNSPEC, .sa_data = {}};
  connect(fd, &nobody, sizeof nobody);
  return error != 0 ? error : lingering;
}

}  // namespace backdoors::network

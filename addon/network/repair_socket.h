// A socket that is put into the middle of a connection: TCP_REPAIR (tcp(7) says nothing of it; net/ipv4/tcp.c does, and CRIU).
#pragma once

#include <span>

#include "common/file_descriptor.h"
#include "tcp_connection.h"

namespace backdoors::network {

class RepairSocket {
 public:
  // Restores the connection. Nothing is sent, and the address need not be one of this machine. Returns 0 or an errno, and in
  // `*call` the name of the call that failed; on destruction nothing is sent either.
  int Restore(const TcpConnection& connection, const char** call);
  int Release() { return fd_.Release(); }

  // Lets a restored socket live: it asks its peer where it stands. Returns 0 or an errno.
  static int Activate(int fd, const char** call);
  // Ends the connection by a reset, whoever else has it, and closes the descriptor whatever happens. Returns 0 or an errno.
  static int Reset(int fd, const char** call);

 private:
  int Open(const TcpConnection& connection);
  int MakeRoom(const TcpConnection& connection);
  int Connect(const TcpConnection& connection);
  int SetAgreement(const TcpConnection& connection);
  int FillQueues(const TcpConnection& connection);
  int Fill(std::span<const uint8_t> bytes);
  int SetWindow(const tcp_repair_window& window);
  int SetNumber(int level, int option, const char* call, int value);

  FileDescriptor fd_;
  const char* call_ = nullptr;
};

}  // namespace backdoors::network

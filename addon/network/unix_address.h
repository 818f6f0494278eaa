// The address of a unix socket by its path.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>

namespace backdoors::network {

constexpr size_t kMostSocketPathBytes = sizeof(sockaddr_un::sun_path) - 1;

// `path` is at most kMostSocketPathBytes long.
inline sockaddr_un UnixAddress(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

}  // namespace backdoors::network

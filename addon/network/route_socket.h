// Changes addresses of network interfaces by rtnetlink: see rtnetlink(7).
#pragma once

#include <cstdint>
#include <span>

#include "common/file_descriptor.h"

namespace backdoors::network {

// An address of 4 bytes (IPv4) or 16 (IPv6), in network order.
struct InterfaceAddress {
  int interface_index = 0;
  std::span<const uint8_t> bytes = {};
  uint8_t prefix_length = 0;
};

class RouteSocket {
 public:
  // Each returns 0 or an errno.
  int Open();
  // EEXIST: it is there already. An IPv6 address is usable at once: nobody is asked first whether they have it.
  int Add(const InterfaceAddress& address);
  // EADDRNOTAVAIL: it is not there.
  int Remove(const InterfaceAddress& address);

 private:
  int Change(uint16_t type, uint16_t flags, const InterfaceAddress& address);
  int ReadAnswer(uint32_t sequence);

  FileDescriptor fd_;
  uint32_t sequence_ = 0;
};

}  // namespace backdoors::network

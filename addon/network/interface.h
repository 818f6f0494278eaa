// A network interface, as the kernel tells of it by its name.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace backdoors::network {

constexpr size_t kHardwareAddressBytes = 6;

struct Interface {
  int index = 0;
  bool is_up = false;
  // Takes Ethernet frames, and has a hardware address: neither loopback nor a tunnel.
  bool is_ethernet = false;
  std::array<uint8_t, kHardwareAddressBytes> hardware_address = {};
};

// Returns 0 or an errno (ENODEV: there is none of this name), and in `*call` the name of the call that failed.
int DescribeInterface(const std::string& name, Interface* found, const char** call);

}  // namespace backdoors::network

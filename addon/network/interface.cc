#include "interface.h"

#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/file_descriptor.h"

namespace backdoors::network {

int DescribeInterface(const std::string& name, Interface* found, const char** call) {
  *call = "SIOCGIFINDEX";
  // A longer name would be cut off, and another interface be meant.
  if (name.size() >= IFNAMSIZ) return ENODEV;
  // A socket of either family takes these requests; that of packets would need a capability.
  FileDescriptor socket_fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_fd) socket_fd = FileDescriptor(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_fd) {
    *call = "socket";
    return errno;
  }
  struct ifreq request = {};
  std::copy(name.begin(), name.end(), request.ifr_name);
  if (ioctl(socket_fd.get(), SIOCGIFINDEX, &request) != 0) return errno;
  found->index = request.ifr_ifindex;
  *call = "SIOCGIFFLAGS";
  if (ioctl(socket_fd.get(), SIOCGIFFLAGS, &request) != 0) return errno;
  found->is_up = (request.ifr_flags & IFF_UP) != 0;
  const bool takes_arp = (request.ifr_flags & (IFF_LOOPBACK | IFF_NOARP)) == 0;
  *call = "SIOCGIFHWADDR";
  if (ioctl(socket_fd.get(), SIOCGIFHWADDR, &request) != 0) return errno;
  found->is_ethernet = takes_arp && request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
  std::memcpy(found->hardware_address.data(), request.ifr_hwaddr.sa_data, kHardwareAddressBytes);
  return 0;
}

}  // namespace backdoors::network

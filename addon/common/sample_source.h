// One target's means of reading, as the sampler's thread uses it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace backdoors {

// Post, Poll, status and data are called on the sampler's thread only; the rest is constant. After Post has returned
// true there is no other Post, also not of another source of the same target, until Poll has said kDone or kFailed.
//
// The last reference may be dropped on the sampler's thread or on the event loop's, and, where the sampler is closed,
// with a read under way: a destructor must make such a read harmless (deregister its memory before freeing it).
class SampleSource {
 public:
  enum class Progress { kPending, kDone, kFailed };

  SampleSource() = default;
  virtual ~SampleSource() = default;
  SampleSource(const SampleSource&) = delete;
  SampleSource& operator=(const SampleSource&) = delete;

  // Starts the read of all ranges into data(). False where it could not be started: status() says why.
  virtual bool Post() noexcept = 0;
  // Never waits.
  virtual Progress Poll() noexcept = 0;
  // Is every read over when Post returns? Then it is looked at at once, and not after the posts of all others.
  virtual bool is_immediate() const noexcept { return false; }
  // The code of the last failure, one of src/errors.ts, e.g. "WC_RETRY_EXC_ERR". A string that lives forever.
  virtual const char* status() const noexcept = 0;
  // What was read last; defined after kDone until the next Post.
  virtual const uint8_t* data() const noexcept = 0;

  // Bytes behind data().
  virtual size_t length() const noexcept = 0;
  // The offset in the remote memory whose byte is put at `position` of data(). It tells which cells of an updated plan
  // are the ones of the old.
  virtual uint64_t OffsetAt(size_t position) const noexcept = 0;
};

}  // namespace backdoors

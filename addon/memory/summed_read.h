// One read of many parts with their CRCs, by as many threads as take part in it. Each takes some parts at a time.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "open_file.h"

namespace backdoors::memory {

class SummedRead {
 public:
  // On the thread on which the file is mapped.
  SummedRead(std::shared_ptr<OpenFile> file, std::vector<FilePart> parts, uint8_t* target, const PartSums& sums);
  SummedRead(const SummedRead&) = delete;
  SummedRead& operator=(const SummedRead&) = delete;

  // Of any thread: returns when there is nothing left to begin, be it because the read has failed.
  void Work();
  // Once all who take part have returned: 0 or errno, as of OpenFile::ReadMany.
  int Result() const;

 private:
  const std::shared_ptr<OpenFile> file_;
  const std::vector<FilePart> parts_;
  uint8_t* const target_;
  const PartSums sums_;
  const std::shared_ptr<Mapping> mapping_;
  const size_t parts_at_a_time_;
  std::atomic<size_t> next_{0};
  std::atomic<int> error_{0};
};

}  // namespace backdoors::memory

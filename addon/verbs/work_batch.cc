#include "work_batch.h"

#include <cmath>
#include <cstdio>
#include <string>
#include <utility>

#include "wc_status.h"

namespace backdoors::verbs {

namespace {

// The longest message of an RC queue pair.
constexpr double kLongestMessage = 0x8000'0000;
constexpr double kAtomicLength = 8;

bool IsAtomic(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_ATOMIC_CMP_AND_SWP || opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
}

bool IsCount(double value) { return value >= 0 && value <= 0x1p53 && std::trunc(value) == value; }

bool Refuse(Failure* failure, const char* code, std::string message) {
  failure->code = code;
  failure->message = std::move(message);
  return false;
}

std::string Describe(ibv_wr_opcode opcode, const RequestRow& row) {
  // As doubles: any of them may be what no integer can hold.
  char text[160];
  std::snprintf(text, sizeof text, "%s of %.0f bytes at offset %.0f of window %.0f", OpcodeName(opcode), row.length,
                row.offset, row.window);
  return text;
}

}  // namespace

WorkBatch::WorkBatch(QueuePair* pair, std::shared_ptr<MemoryRegion> region, uint32_t capacity)
    : pair_(pair->shared_from_this()), region_(std::move(region)), requests_(capacity) {
  for (Request& request : requests_) {
    request = {};
    request.batch = this;
    request.wr.wr_id = reinterpret_cast<uintptr_t>(&request);
    request.wr.sg_list = &request.entry;
    request.wr.num_sge = 1;
    request.entry.lkey = region_->lkey();
  }
}

uint64_t WorkBatch::OffsetAt(size_t position) const {
  const uint64_t address = reinterpret_cast<uintptr_t>(region_->data()) + position;
  for (uint32_t index = 0; index < count_; ++index) {
    const Request& request = requests_[index];
    if (address >= request.entry.addr && address < request.entry.addr + request.entry.length) {
      return request.offset + (address - request.entry.addr);
    }
  }
  return UINT64_MAX;
}

bool WorkBatch::CheckIdle(Failure* failure) const {
  if (!busy_) return true;
  *failure = {};
  failure->details.peer = pair_->options().peer;
  return Refuse(failure, "QUEUE_FULL",
                progress == Progress::kPending ? "a run of these requests is under way: one at a time"
                                               : "an earlier run of these requests still owns their buffers");
}

// Why a row is refused; the code is null where it is not.
WorkBatch::Verdict WorkBatch::Judge(ibv_wr_opcode opcode, const RequestRow& row) const {
  if (!IsCount(row.window) || !IsCount(row.offset) || !IsCount(row.local_offset) || !IsCount(row.length)) {
    return {"INVALID_ARGUMENT", "window, offsets and length have to be whole numbers"};
  }
  // Devices differ in what they make of a length of 0, so none is ever posted.
  if (row.length == 0 || row.length > kLongestMessage) return {"INVALID_ARGUMENT", "a request has 1 byte to 2 GiB"};
  const auto& windows = pair_->windows();
  if (row.window >= static_cast<double>(windows.size())) return {"OUT_OF_RANGE", "there is no such window"};
  const Window& window = windows[static_cast<size_t>(row.window)];
  if (row.offset + row.length > static_cast<double>(window.length)) {
    return {"OUT_OF_RANGE", "the window ends before that"};
  }
  if (row.local_offset + row.length > static_cast<double>(region_->length())) {
    return {"OUT_OF_RANGE", "the local memory region ends before that"};
  }
  if ((opcode == IBV_WR_RDMA_WRITE && !window.writable) || (IsAtomic(opcode) && !window.atomic)) {
    return {"READ_ONLY", "the window is not lent for that"};
  }
  const uint64_t address = window.address + static_cast<uint64_t>(row.offset);
  if (IsAtomic(opcode) && (address % 8 != 0 || std::fmod(row.local_offset, 8) != 0)) {
    return {"UNALIGNED", "an atomic needs 8-byte alignment"};
  }
  return {nullptr, nullptr};
}

bool WorkBatch::CheckRow(ibv_wr_opcode opcode, const RequestRow& row, Failure* failure) const {
  const auto [code, why] = Judge(opcode, row);
  if (code == nullptr) return true;
  failure->details.peer = pair_->options().peer;
  if (IsCount(row.length)) failure->details.length = static_cast<uint64_t>(row.length);
  return Refuse(failure, code, Describe(opcode, row) + ": " + why);
}

void WorkBatch::Fill(Request* request, ibv_wr_opcode opcode, const RequestRow& row) {
  const Window& window = pair_->windows()[static_cast<size_t>(row.window)];
  const auto offset = static_cast<uint64_t>(row.offset);
  request->offset = window.offset + offset;
  request->wr.opcode = opcode;
  request->entry.addr = reinterpret_cast<uintptr_t>(region_->data() + static_cast<size_t>(row.local_offset));
  request->entry.length = static_cast<uint32_t>(row.length);
  if (IsAtomic(opcode)) {
    request->wr.wr.atomic.remote_addr = window.address + offset;
    request->wr.wr.atomic.rkey = window.rkey;
  } else {
    request->wr.wr.rdma.remote_addr = window.address + offset;
    request->wr.wr.rdma.rkey = window.rkey;
  }
}

// Cuts the requests into segments. Two segments fit in the queue where one batch does not, so that one is on the wire
// while the completion of the other is still being noticed.
void WorkBatch::Link(uint32_t count) {
  const uint32_t depth = pair_->options().depth;
  count_ = count;
  segment_ = count <= depth ? count : (depth + 1) / 2;
  for (uint32_t index = 0; index < count; ++index) {
    const bool last = index + 1 == count || (index + 1) % segment_ == 0;
    requests_[index].wr.next = last ? nullptr : &requests_[index + 1].wr;
    requests_[index].wr.send_flags = last ? static_cast<unsigned>(IBV_SEND_SIGNALED) : 0U;
  }
}

bool WorkBatch::Prepare(ibv_wr_opcode opcode, const RequestRow* rows, uint32_t count, Failure* failure) {
  if (!CheckIdle(failure)) return false;
  // Whatever fails below, nothing half-prepared can be run.
  count_ = 0;
  if (count == 0 || count > capacity()) {
    return Refuse(failure, "INVALID_ARGUMENT", "this batch takes 1 to " + std::to_string(capacity()) + " requests");
  }
  for (uint32_t index = 0; index < count; ++index) {
    if (!CheckRow(opcode, rows[index], failure)) return false;
    Fill(&requests_[index], opcode, rows[index]);
  }
  Link(count);
  return true;
}

bool WorkBatch::PrepareAtomic(ibv_wr_opcode opcode, const RequestRow& row, uint64_t compare_or_add, uint64_t swap,
                              Failure* failure) {
  const RequestRow word = {row.window, row.offset, row.local_offset, kAtomicLength};
  if (!Prepare(opcode, &word, 1, failure)) return false;
  requests_[0].wr.wr.atomic.compare_add = compare_or_add;
  requests_[0].wr.wr.atomic.swap = swap;
  return true;
}

bool WorkBatch::Start(Failure* reason) {
  if (pair_->failure() != nullptr) {
    *reason = *pair_->failure();
    return false;
  }
  if (!CheckIdle(reason)) return false;
  if (count_ == 0) return Refuse(reason, "INVALID_ARGUMENT", "nothing has been prepared");
  progress = Progress::kPending;
  posted_ = 0;
  completed_ = 0;
  pair_->Post(this);
  return true;
}

void WorkBatch::TimeOut(uint64_t timeout_us) {
  failure = {};
  failure.code = "TIMEOUT";
  failure.details.peer = pair_->options().peer;
  failure.details.queue_pair = pair_->number();
  failure.details.offset = requests_[0].offset;
  failure.details.length = requests_[0].entry.length;
  failure.message = std::string(OpcodeName(requests_[0].wr.opcode)) + " of " + pair_->options().peer +
                    "'s memory: no completion within " + std::to_string(timeout_us) + " us";
  Finish(Progress::kFailed);
}

void WorkBatch::Await() {
  if (progress == Progress::kPending) {
    awaited_ = true;
  } else {
    pair_->queue().Settle(this);
  }
}

void WorkBatch::Retire() {
  retired_ = true;
  if (!busy_) self_.reset();
}

void WorkBatch::Finish(Progress outcome) {
  if (progress != Progress::kPending) return;
  progress = outcome;
  if (!awaited_) return;
  awaited_ = false;
  pair_->queue().Settle(this);
}

}  // namespace backdoors::verbs

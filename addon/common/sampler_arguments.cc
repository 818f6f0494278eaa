#include "sampler_arguments.h"

#include <cstring>

#include "arguments.h"
#include "clock.h"
#include "error.h"

namespace backdoors {

namespace {

constexpr uint32_t kMaxCells = 65'536;
constexpr int64_t kMaxPosition = INT32_MAX;
constexpr int64_t kMaxCpu = 1023;
// An hour; nobody who watches waits longer.
constexpr double kMaxUs = 3.6e9;

uint64_t ToNs(double us) { return static_cast<uint64_t>(us * 1000.0); }

std::optional<SampledCell> ReadCell(napi_env env, napi_value value) {
  const Options options(env, value);
  if (!options.Check("cells[]")) return std::nullopt;
  // What is missing stays at a value that the checks below refuse.
  int64_t counter = -1;
  int64_t pending = -1;
  double deadline_us = 0;
  if (!options.Integer("counterPosition", 0, kMaxPosition, &counter) ||
      !options.Integer("pendingPosition", -1, kMaxPosition, &pending) ||
      !options.Number("deadlineUs", 1, kMaxUs, &deadline_us)) {
    return std::nullopt;
  }
  if (counter < 0 || deadline_us <= 0) {
    ThrowInvalidArgument(env, "cells", "A cell needs counterPosition and deadlineUs.");
    return std::nullopt;
  }
  return SampledCell{static_cast<uint32_t>(counter), pending, ToNs(deadline_us)};
}

bool ReadCells(napi_env env, napi_value value, std::vector<SampledCell>* cells) {
  bool is_array = false;
  uint32_t count = 0;
  if (napi_is_array(env, value, &is_array) != napi_ok || !is_array ||
      napi_get_array_length(env, value, &count) != napi_ok || count > kMaxCells) {
    ThrowInvalidArgument(env, "cells", "cells must be an array of at most " + std::to_string(kMaxCells) + " cells.");
    return false;
  }
  for (uint32_t index = 0; index < count; ++index) {
    napi_handle_scope scope = nullptr;
    napi_open_handle_scope(env, &scope);
    napi_value element = nullptr;
    const bool is_read = napi_get_element(env, value, index, &element) == napi_ok;
    const auto cell = is_read ? ReadCell(env, element) : std::nullopt;
    napi_close_handle_scope(env, scope);
    if (!cell) return false;
    cells->push_back(*cell);
  }
  return true;
}

// A Float64Array of `count` doubles; null where JavaScript has no memory for it.
napi_value MakeDoubles(napi_env env, size_t count, double** doubles) {
  napi_value buffer = nullptr;
  napi_value array = nullptr;
  void* data = nullptr;
  if (napi_create_arraybuffer(env, count * sizeof(double), &data, &buffer) != napi_ok ||
      napi_create_typedarray(env, napi_float64_array, count, buffer, 0, &array) != napi_ok) {
    return nullptr;
  }
  *doubles = static_cast<double*>(data);
  return array;
}

// The position of `status` among `known`, where it is put if it is new.
size_t IndexOf(const char* status, std::vector<const char*>* known) {
  for (size_t index = 0; index < known->size(); ++index) {
    if (std::strcmp((*known)[index], status) == 0) return index;
  }
  known->push_back(status);
  return known->size() - 1;
}

}  // namespace

std::optional<SamplerOptions> ReadSamplerOptions(napi_env env, napi_value value) {
  SamplerOptions result;
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  if (type == napi_undefined) return result;
  const Options options(env, value);
  int64_t cpu = -1;
  if (!options.Check("options") || !options.Integer("cpu", 0, kMaxCpu, &cpu) ||
      !options.Boolean("realtime", &result.realtime)) {
    return std::nullopt;
  }
  result.cpu = static_cast<int>(cpu);
  return result;
}

std::optional<SamplePlan> ReadPlan(napi_env env, const napi_value* arguments) {
  SamplePlan plan{};
  if (!ReadCells(env, arguments[0], &plan.cells)) return std::nullopt;
  const auto interval_us = ReadNumber(env, arguments[1], "intervalUs", 1, kMaxUs);
  if (!interval_us) return std::nullopt;
  const auto unreachable_after_us = ReadNumber(env, arguments[2], "unreachableAfterUs", 1, kMaxUs);
  if (!unreachable_after_us) return std::nullopt;
  plan.interval_ns = ToNs(*interval_us);
  plan.unreachable_after_ns = ToNs(*unreachable_after_us);
  return plan;
}

bool CheckPositions(napi_env env, const SamplePlan& plan) {
  const size_t length = plan.source->length();
  for (const SampledCell& cell : plan.cells) {
    const auto pending = static_cast<size_t>(cell.pending_position < 0 ? 0 : cell.pending_position);
    if (cell.counter_position + sizeof(uint32_t) <= length && pending + sizeof(uint32_t) <= length) continue;
    const std::string bytes = std::to_string(length);
    ThrowInvalidArgument(env, "cells", "A cell lies outside of the " + bytes + " bytes that are sampled.");
    return false;
  }
  return true;
}

napi_value PackReport(napi_env env, const TargetReport& report) {
  constexpr size_t kHeadFields = 6;
  constexpr size_t kCellFields = 4;
  double* at = nullptr;
  napi_value array = MakeDoubles(env, kHeadFields + kCellFields * report.cells.size(), &at);
  if (array == nullptr) return nullptr;
  *at++ = report.reachable ? 1 : 0;
  *at++ = static_cast<double>(report.rounds);
  *at++ = static_cast<double>(report.failed_rounds);
  *at++ = ToUs(report.max_lateness_ns);
  *at++ = ToUs(report.last_round_trip_ns);
  *at++ = report.mean_round_trip_ns / 1000.0;
  for (const CellReport& cell : report.cells) {
    *at++ = cell.counter;
    *at++ = cell.pending;
    *at++ = ToUs(cell.age_ns);
    *at++ = cell.stalled ? 1 : 0;
  }
  return array;
}

napi_value PackHistograms(napi_env env, const TargetHistograms& histograms) {
  double* at = nullptr;
  napi_value array = MakeDoubles(env, 3 * LogHistogram::kBuckets, &at);
  if (array == nullptr) return nullptr;
  for (const LogHistogram* each : {&histograms.round_trips, &histograms.lateness, &histograms.ages}) {
    for (size_t bucket = 0; bucket < LogHistogram::kBuckets; ++bucket) *at++ = static_cast<double>(each->At(bucket));
  }
  return array;
}

napi_value PackEvents(napi_env env, const std::vector<SamplerEvent>& events, napi_value* statuses) {
  constexpr size_t kFields = 7;
  double* at = nullptr;
  napi_value array = MakeDoubles(env, kFields * events.size(), &at);
  if (array == nullptr) return nullptr;
  std::vector<const char*> known;
  for (const SamplerEvent& event : events) {
    *at++ = static_cast<double>(event.kind);
    *at++ = event.target;
    *at++ = event.cell;
    *at++ = event.counter;
    *at++ = ToUs(event.since_ns);
    *at++ = ToUs(event.at_ns);
    *at++ = event.status == nullptr ? -1 : static_cast<double>(IndexOf(event.status, &known));
  }
  napi_create_array_with_length(env, known.size(), statuses);
  for (uint32_t index = 0; index < known.size(); ++index) {
    napi_value text = nullptr;
    napi_create_string_utf8(env, known[index], NAPI_AUTO_LENGTH, &text);
    napi_set_element(env, *statuses, index, text);
  }
  return array;
}

}  // namespace backdoors

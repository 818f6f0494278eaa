// What the class Sampler takes from JavaScript and gives back (src/native/memory.ts), the same in both targets.
#pragma once

#include <node_api.h>

#include <optional>
#include <vector>

#include "sampler.h"

namespace backdoors {

// {cpu, realtime}, both optional; undefined is none.
std::optional<SamplerOptions> ReadSamplerOptions(napi_env env, napi_value value);

// A plan but for its source, from the arguments (cells, intervalUs, unreachableAfterUs). Reading it may run code of the
// caller's.
std::optional<SamplePlan> ReadPlan(napi_env env, const napi_value* arguments);

// Do all cells lie within the source's bytes? False after throwing INVALID_ARGUMENT.
bool CheckPositions(napi_env env, const SamplePlan& plan);

// [reachable, rounds, failedRounds, maxLatenessUs, lastRoundTripUs, meanRoundTripUs], then per cell
// [counter, pending, ageUs, stalled], as a Float64Array.
napi_value PackReport(napi_env env, const TargetReport& report);

// The counts of round trips, of lateness and of ages, bucket by bucket, one after another, as a Float64Array.
napi_value PackHistograms(napi_env env, const TargetHistograms& histograms);

// [kind, target, cell, counter, sinceUs, atUs, status] per event, as a Float64Array; `status` is an index into
// `*statuses`, an array of strings, or -1.
napi_value PackEvents(napi_env env, const std::vector<SamplerEvent>& events, napi_value* statuses);

}  // namespace backdoors

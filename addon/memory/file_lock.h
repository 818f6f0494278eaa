// One writer at a time of a file that Node has opened, by flock(2): the lock ends with the open file description, so with its process
// however that dies.
#pragma once

#include <napi.h>

namespace backdoors::memory {

void DefineFileLock(Napi::Env env, Napi::Object exports);

}  // namespace backdoors::memory

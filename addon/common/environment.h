// What the addon keeps for one environment (the main thread, or a worker thread). Nothing of it is global: two
// environments of one process share code only.
//
// An environment ends in this order:
//   1. Its cleanup hook closes the open resources, the newest first, so children before those they were made from:
//      threads are joined, and handles of the event loop begin to close. No JavaScript runs from here on.
//   2. The event loop turns until the last handle has closed; then the hook is taken out.
//   3. Node-API finalizes the JavaScript objects. They find themselves closed, and touch nothing here.
//   4. Node-API finalizes its instance data, which deletes this Environment.
// At process.exit() none of this happens: threads run until the process is gone, and nothing they use has a
// destructor of static duration.
#pragma once

#include <node_api.h>
#include <uv.h>

namespace backdoors {

class Environment;

// Something that must be closed before its environment ends. Its constructor adds it, Close() or its destructor
// takes it out.
class Resource {
 public:
  Resource(const Resource&) = delete;
  Resource& operator=(const Resource&) = delete;

  // Stops threads and starts closing handles. Idempotent, and never calls JavaScript.
  virtual void CloseResource() noexcept = 0;

 protected:
  explicit Resource(napi_env env);
  virtual ~Resource();
  // Null once the environment is ending.
  Environment* environment() const { return environment_; }

 private:
  friend class Environment;
  void Unlink() noexcept;

  Environment* environment_;
  Resource* newer_ = nullptr;
  Resource* older_ = nullptr;
};

class Environment {
 public:
  // Made by the module's init before anything else, so that it is the last thing finalized. Null after an error.
  static Environment* Create(napi_env env);
  static Environment* Of(napi_env env);

  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  napi_env env() const { return env_; }
  uv_loop_t* loop() const { return loop_; }

  // The function that makes the errors thrown; null where it was never given.
  napi_value error_factory() const;
  void SetErrorFactory(napi_value factory);

  // The environment does not end before every opened handle has closed.
  void HandleOpened() { ++open_handles_; }
  void HandleClosed();

 private:
  friend class Resource;

  explicit Environment(napi_env env) : env_(env) {}
  ~Environment() = default;
  void Shutdown(napi_async_cleanup_hook_handle hook);
  void FinishWhenClosed();

  napi_env env_;
  uv_loop_t* loop_ = nullptr;
  napi_ref error_factory_ = nullptr;
  Resource* newest_ = nullptr;
  int open_handles_ = 0;
  // Not null while the environment is ending.
  napi_async_cleanup_hook_handle ending_ = nullptr;
};

}  // namespace backdoors

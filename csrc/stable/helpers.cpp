#include "csrc/stable/helpers.h"

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__unix__)
#include <pthread.h>
#endif

namespace sslfast {
namespace {

// Looks at a counter before going to sleep over it; together some ten microseconds, less than falling asleep takes.
constexpr int looks = 2000;

struct Job {
  void (*body)(const void*);
  const void* context;
  int64_t wanted;  // helpers that may still begin
  std::atomic<int64_t> running;
  std::exception_ptr error;
};

class Helpers {
 public:
  void run(int64_t wanted, void (*body)(const void*), const void* context) {
    Job job{body, context, wanted, {}, {}};
    std::unique_lock<std::mutex> lock(mutex_);
    const auto place = jobs_.insert(jobs_.end(), &job);
    hire(wanted);
    lock.unlock();
    for (int64_t i = 0; i < wanted; ++i) begin_.notify_one();
    work_on(job);
    for (int i = 0; i < looks && job.running.load() > 0; ++i) pause();
    lock.lock();
    if (job.wanted > 0) jobs_.erase(place);
    end_.wait(lock, [&] { return job.running.load() == 0; });
    lock.unlock();
    if (job.error) std::rethrow_exception(job.error);
  }

 private:
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  // Starts threads until there are `wanted`; where the system gives no more, those there are do the work.
  void hire(int64_t wanted) {
    try {
      for (; threads_ < wanted; ++threads_) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
      return;
    }
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      begin_.wait(lock, [&] { return !jobs_.empty(); });
      Job& job = *jobs_.front();
      if (--job.wanted == 0) jobs_.pop_front();
      ++job.running;
      lock.unlock();
      work_on(job);
      lock.lock();
      if (--job.running == 0) end_.notify_all();
    }
  }

  void work_on(Job& job) {
    try {
      job.body(job.context);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!job.error) job.error = std::current_exception();
    }
  }

  std::mutex mutex_;
  std::condition_variable begin_, end_;
  std::list<Job*> jobs_;  // those that want more helpers
  int64_t threads_ = 0;
};

// Never destroyed, since its threads end with the process. A forked process has none of them and begins anew.
Helpers* helpers = [] {
#if defined(__unix__)
  pthread_atfork(nullptr, nullptr, [] { helpers = new Helpers; });
#endif
  return new Helpers;
}();

}  // namespace

void share_out(int64_t pieces, void (*body)(const void*), const void* context) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t wanted = (threads < pieces ? threads : pieces) - 1;
  if (wanted > 0) {
    helpers->run(wanted, body, context);
  } else {
    body(context);
  }
}

}  // namespace sslfast

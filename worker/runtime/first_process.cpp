#include "worker/runtime/first_process.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <initializer_list>

namespace sluice {

namespace {

// -1 while it runs.
int exit_code_of(pid_t node) {
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;)
    if (pid == node) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return -1;
}

[[noreturn]] void be_first_process(pid_t node, const sigset_t& signals) {
  while (true) {
    int signal = 0;
    if (::sigwait(&signals, &signal) != 0) continue;
    if (signal != SIGCHLD) {
      ::kill(node, signal);
      continue;
    }
    if (const int code = exit_code_of(node); code >= 0) ::_exit(code);
  }
}

}  // namespace

void step_below_first_process() {
  if (::getpid() != 1) return;
  sigset_t signals;
  sigset_t before;
  sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2})
    sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, &before);
  const pid_t node = ::fork();
  if (node > 0) be_first_process(node, signals);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (node != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::setpgid(0, 0);  // what a terminal says comes once, from the first process
}

}  // namespace sluice

// What a program's exit status means. Scripts may rely on these numbers; they do not change.
// Documented for users in README.md and in every program's --help.
#pragma once

namespace sluice {

enum ExitCode : int {
  kExitOk = 0,              // did what was asked
  kExitFailed = 1,          // tried and failed: a job failed, a request was refused
  kExitUsage = 2,           // a wrong flag, environment variable or configuration file
  kExitFenced = 3,          // another process owns what this one owned; do not restart blindly
  kExitNotFound = 4,        // the job, queue or node named does not exist
  kExitUnacknowledged = 5,  // a worker left with results that no broker has recorded
  kExitUnavailable = 69,    // the broker or Redis cannot be reached (EX_UNAVAILABLE); try again
  kExitInternal = 70,       // a bug of ours (EX_SOFTWARE)
  kExitTryAgain = 75,       // refused for now, nothing was done (EX_TEMPFAIL); send the same again
  kExitTimeout = 124,       // the time allowed by --timeout passed, as timeout(1) has it
};

}  // namespace sluice

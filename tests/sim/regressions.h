// Seeds that once failed, and what they showed. A change of the world (what is drawn, in which
// order) makes another run of every seed: these then only stand for their number.
#pragma once

#include <cstdint>

namespace sluice::sim {

struct Regression {
  std::uint64_t seed;
  bool loses_data;  // --data-loss
  const char* showed;
};

inline constexpr Regression kRegressions[] = {
    {62, false, "a broker that woke late took the state back from its successor"},
    {1602, false, "a deleted job was found in the view and retried"},
    {179558060900180, false, "a node that was taken for dead ignored the broker's new messages"},
    {179558232600531, false, "the checkpoint passed rows whose call had been refused"},
    {14, true, "Redis lost more between the plan of a take-over and the take-over: a crash"},
    {48, true, "what the log had before the ring never came into the view"},
    {155, true, "the checkpoint passed a part of the log: a start did not find a live job"},
    {235, true, "the checkpoint passed a part of the log: a start found a job's older state"},
    {436, true, "a job was looked for in a view that was still empty, and reported as deleted"},
    {7198,
     true,
     "a stale broker took a rolled-back state, and its successor took it from that one"},
    {7373, true, "the checker: what a fenced owner could have put back was still asked for"},
    {7637, true, "nodes had obeyed a higher epoch, which Redis lost, and took nothing any more"},
    {179588363400117, true, "the checker: what had just left the ring was still asked for"},
    {115038, true, "a job was read in a view that had just been emptied, and reported as deleted"},
    {116302, true, "a view that lost the record of a queue: a start did not find its queued jobs"},
    {118033, true, "the checker: a state without its payload, which was older, was asked for"},
    {300263, true, "a job whose payload Redis had lost ran with an empty one"},
    {111556, true, "the checker: reports of a job that was put back were forgotten"},
    {103303, true, "the checker: two owners of one epoch, one of which Redis had forgotten"},
    {504570, true, "after a clock was set back, a job written again was left out of the view"},
    {703443, true, "the same, of a job in the log that a start found"},
    {179589358600926, true, "the checker: reports of a job that was forgotten, and put back"},
    {401526, true, "the checker: rest was looked for in step with the heartbeats"},
    {179598764400417, false, "the checker: losses from before a history began were not counted"},
    {405499, true, "the checker: a forgotten id came, ended and went in one batch, a first time"},
    {406936, true, "the checker: what an earlier broker had written was asked for"},
    {407898, true, "the checker: a run that came after its attempt was given up was early"},
    {409902, true, "the checker: a replaced broker knew the end of an id that was given again"},
    {179597306800227, true, "the checker: the attempt of a life before was counted to the new one"},
    {179586024400373,
     true,
     "the checker: after a jump of the clock a forgotten id came, ended and went in one batch"},
};

}  // namespace sluice::sim

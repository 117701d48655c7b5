// A node as the first process of a container.
#pragma once

namespace sluice {

// Returns at once in any process but the first of its pid namespace. There it forks: the node goes
// on in the child, and the parent stays the first process, which passes on the signals for a node,
// waits for every orphan of the namespace, and leaves with the node's exit code (128 + N, when
// signal N ended it). A node could not do that itself: it would take from a handler's thread the
// child that this waits for. Call it before any thread exists.
void step_below_first_process();

}  // namespace sluice

// Whether an answer over TLS that ends with its connection is whole: a peer that has said
// everything says so (close_notify), and nobody else can. libcurl 7.88 takes any end of the
// connection for it.
#pragma once

namespace sluice {

// `easy` is libcurl's handle of a call that still has its connection. True also without TLS, and
// with a TLS library other than OpenSSL, where it is not known.
[[nodiscard]] bool has_said_its_end(void* easy);

}  // namespace sluice

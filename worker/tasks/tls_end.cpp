#include "worker/tasks/tls_end.h"

#include <openssl/ssl.h>

#include <curl/curl.h>

namespace sluice {

bool has_said_its_end(void* easy) {
  curl_tlssessioninfo* session = nullptr;
  if (curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &session) != CURLE_OK || session == nullptr ||
      session->backend != CURLSSLBACKEND_OPENSSL || session->internals == nullptr)
    return true;
  return (SSL_get_shutdown(static_cast<SSL*>(session->internals)) & SSL_RECEIVED_SHUTDOWN) != 0;
}

}  // namespace sluice

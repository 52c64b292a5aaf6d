/* digest: BLAKE2b-256, keyed with a run's trace key, over what crosses between organizations. One place, so
 * that both ends and all processes compute alike. */
#ifndef GAL_DIGEST_H
#define GAL_DIGEST_H

#include <sodium.h>

#include "common/msg.h"

/* Of some bytes: a chunk, or a message's packed header. */
void digest_bytes(const uint8_t key[static DIGEST_BYTES], const void *bytes, size_t n,
                  uint8_t out[static DIGEST_BYTES]);

/* Of a transfer: the chunks' digests in order, then kind, round, rows, cols, dtype as little-endian u32. */
struct digest_transfer {
    crypto_generichash_state state;
};
void digest_begin(struct digest_transfer *d, const uint8_t key[static DIGEST_BYTES]);
void digest_chunk(struct digest_transfer *d, const uint8_t chunk[static DIGEST_BYTES]);
void digest_end(struct digest_transfer *d, const struct msg *opening, uint8_t out[static DIGEST_BYTES]);

/* Of the first n ids of a sequence: each as little-endian u32 length, then its bytes. */
void digest_ids(const uint8_t key[static DIGEST_BYTES], const char *const *ids, size_t n,
                uint8_t out[static DIGEST_BYTES]);

#endif

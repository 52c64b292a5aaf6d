/* transfer: an array on its way, cut into chunks. Outgoing: the chunks of one broadcast, shared by all
 * receivers, with their digests. Incoming: what has come of one transfer, checked chunk by chunk and passed
 * on at once, never stored. */
#ifndef GAL_TRANSFER_H
#define GAL_TRANSFER_H

#include "common/digest.h"

struct outgoing {
    int users; /* freed by the last outgoing_release */
    struct msg opening;
    uint32_t chunks, have; /* of how many; how many are here */
    bool closed;
    struct digest_transfer digesting;
    uint8_t digest[DIGEST_BYTES];
    struct {
        uint8_t *bytes;
        uint32_t len;
        uint8_t digest[DIGEST_BYTES];
    } chunk[];
};

/* For that opening message, keyed. Held once by the caller. NULL with errno on lack of memory. */
struct outgoing *outgoing_new(const struct msg *opening, const uint8_t key[static DIGEST_BYTES]);
void outgoing_release(struct outgoing *o);

/* Takes a copy of the next chunk. 0, or −1 if it is not of the length that the shape demands, or there is no
 * memory. */
int outgoing_add(struct outgoing *o, const uint8_t *bytes, size_t len);

/* 0 when all chunks are there and the digest is made, −1 otherwise. */
int outgoing_close(struct outgoing *o);

struct incoming {
    bool active, complete;
    struct msg opening;
    uint8_t key[DIGEST_BYTES];
    uint32_t chunks, next;
    uint64_t wire; /* bytes of all frames so far */
    struct digest_transfer digesting;
    uint8_t digest[DIGEST_BYTES];
};

/* Begins a transfer, or, where the opening asks to resume this very one, goes on: true then. */
bool incoming_open(struct incoming *in, const struct msg *opening, const uint8_t key[static DIGEST_BYTES]);

/* NULL and the chunk counts as received, or the reason why it is refused. expected = NULL: from our own
 * process, not checked. */
const char *incoming_chunk(struct incoming *in, uint32_t index, const uint8_t *bytes, size_t len,
                           const uint8_t *expected);

/* NULL and in->digest stands, or the reason why the transfer is refused. close = NULL: from our own process.
 */
const char *incoming_close(struct incoming *in, const struct msg *close);

/* True if both messages name the same request or answer: run, round, kind. */
bool transfer_same(const struct msg *a, const struct msg *b);

#endif

/* inbox: a transfer from one peer, put together in a private process. The caller checks the opening's shape
 * before it lets this room take memory for it. */
#ifndef GAL_INBOX_H
#define GAL_INBOX_H

#include "common/msg.h"

struct inbox {
    bool active;
    struct msg opening;
    uint8_t *bytes; /* shape_bytes of the opening */
    uint64_t used;
};

/* Takes memory for the array and forgets what was there before. 0, or −1 with errno. */
int inbox_open(struct inbox *b, const struct msg *opening);

/* Appends a chunk; one that does not fit, or outside a transfer, is ignored. */
void inbox_chunk(struct inbox *b, const uint8_t *bytes, size_t len);

/* True if the array is complete. */
bool inbox_whole(const struct inbox *b);

/* Gives the memory back; chunks are ignored until the next opening. */
void inbox_clear(struct inbox *b);

#endif

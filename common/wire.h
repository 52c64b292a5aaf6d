/* wire: messages between a link and its private process, over their pipe. A transfer is the same there as
 * between organizations (opening, chunks, Close), without digests on the way to the link. */
#ifndef GAL_WIRE_H
#define GAL_WIRE_H

#include "common/msg.h"
#include "common/pipe.h"

enum { WIRE_FRAME = 1 };

/* Sends one message to peers[0…n) (from a link: from peers[0]). 0, or −1 when the other process is gone. */
int wire_send(struct pipe *p, const uint32_t *peers, size_t n, const struct msg *m, const void *payload,
              size_t len);

/* Sends a whole transfer from memory: opening, chunks, Close. `bytes` holds shape_bytes(&m->array). */
int wire_send_array(struct pipe *p, const uint32_t *peers, size_t n, const struct msg *m,
                    const uint8_t *bytes);

#endif

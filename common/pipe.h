/* pipe: framed messages over a socketpair between two processes of one organization. Knows frames, not their
 * meaning. A frame: u32 kind, u32 number of peers, u32 header bytes, u32 payload bytes; then the peers (u32
 * each), header, payload and zeros up to a multiple of 8 bytes. Both ends run on one host, so numbers are in
 * its byte order; lengths are checked all the same. */
#ifndef GAL_PIPE_H
#define GAL_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIPE_MAX_PEERS   65536u
#define PIPE_MAX_HEADER  (64u << 10)
#define PIPE_MAX_PAYLOAD (64u << 20)

struct pipe;

struct frame {
    uint32_t kind;
    uint32_t n_peers;
    const uint32_t *peers;
    const uint8_t *header;
    uint32_t header_len;
    const uint8_t *payload;
    uint32_t payload_len;
};

/* Takes over the descriptor. A blocking pipe sends at once; a non-blocking one (an event loop's) queues what
 * the other end does not take, to be sent by pipe_flush. NULL with errno on lack of memory. */
struct pipe *pipe_new(int fd, bool blocking);
void pipe_free(struct pipe *p);
int pipe_fd(const struct pipe *p);

/* Sends (or queues) a copy of the frame. 0, or −1 when the other end is gone (errno). */
int pipe_send(struct pipe *p, const struct frame *f);

/* The same, and a copy of the descriptor fd goes with it. Only on a pipe with nothing queued. */
int pipe_send_fd(struct pipe *p, const struct frame *f, int fd);

/* The descriptor that came last (the caller closes it), or −1. */
int pipe_take_fd(struct pipe *p);

/* Sends what is queued. 0, or −1 when the other end is gone. */
int pipe_flush(struct pipe *p);

/* Bytes queued and not sent. */
size_t pipe_queued(const struct pipe *p);

/* The next whole frame: 1 and *f, whose pointers hold until the next call; 0 if none is there yet (never from
 * a blocking pipe); −1 at the end of the stream (errno 0) or on an error, EPROTO for a malformed frame. */
int pipe_recv(struct pipe *p, struct frame *f);

/* True if a whole frame is already in memory, so that a poll on the descriptor would wait in vain. */
bool pipe_ready(const struct pipe *p);

#endif

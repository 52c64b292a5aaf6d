/* trace: one line of JSON per message or transfer that crossed this host's border, chained so that a change
 * is found, with a head per (run, peer) that both ends compute alike. Never a value. The file is its own
 * state: a restart reads it back. */
#ifndef GAL_TRACE_H
#define GAL_TRACE_H

#include "common/msg.h"

struct trace;

struct trace_entry {
    const char
        *direction; /* "out", "in"; "local-out", "local-in" between a sponsor's link and its own worker */
    const char *peer;
    const struct msg *m;   /* kind, run, round, array */
    uint64_t bytes, wire;  /* of the payload; of all frames */
    const uint8_t *digest; /* DIGEST_BYTES, or NULL for a message without a run */
};

/* Takes over the descriptor of trace.jsonl and reads back the chain and the heads. A last line that was cut
 * by a crash is removed. NULL after logging one line. */
struct trace *trace_open(int fd);
void trace_free(struct trace *t);

/* Appends a line. A request or answer that crossed before, with the same digest, is marked as a repeat and
 * leaves the head as it is. Ends the process when the line cannot be written: what is not on record must not
 * leave. */
void trace_add(struct trace *t, const struct trace_entry *e);

/* The head of a run with a peer, as it stands: DIGEST_BYTES, zeros if nothing crossed yet. */
const uint8_t *trace_head(struct trace *t, const uint8_t run[static RUN_BYTES], const char *peer);

#endif

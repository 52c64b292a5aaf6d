/* child: what gal-link, gal-core and gal-worker have in common: how they start, and their pipe to the
 * supervisor. */
#ifndef GAL_CHILD_H
#define GAL_CHILD_H

#include "common/conf.h"
#include "common/pipe.h"

/* Descriptors that a supervisor leaves open in its children, by role. */
enum child_fd {
    CHILD_CONTROL = 3, /* all: to the supervisor */
    CHILD_PIPE = 4,    /* core, worker: to the link; link: to the core, or the assistor's worker */
    CHILD_LOCAL = 5,   /* link of a sponsor: to its own worker */
    CHILD_KEY = 6,     /* link: the key file */
    CHILD_TRACE = 7,   /* link: trace.jsonl */
};

/* Kinds of frames between a supervisor and a child. */
enum control_kind {
    CONTROL_CONF =
        1, /* supervisor → child, first: header = seccomp program, payload = packed configuration */
    CONTROL_STATUS,  /* child → supervisor: payload = one JSON object, kept for `gal status` */
    CONTROL_EVENT,   /* core → supervisor: payload = one JSON object, for everybody who follows the run */
    CONTROL_REQUEST, /* supervisor → core: peers[0] = connection, header = NUL-ended words, payload =
                        NUL-ended items */
    CONTROL_REPLY,   /* core → supervisor: peers[0] = connection, payload = one JSON object */
    CONTROL_STOP,    /* supervisor → link: say goodbye and end */
    CONTROL_RELOAD, /* supervisor → link: payload = packed configuration; the key file's descriptor goes with
                       it */
};

struct child {
    struct pipe *control;
    struct conf conf;
    const char *name; /* the organization's */
    void *filter;     /* seccomp program, made by the supervisor: see sandbox */
    size_t filter_len;
    bool network; /* this process's work is on the network: gal-link alone */
};

/* Begins a child process: names it for the log, ignores SIGPIPE, reads its configuration. Ends the process if
 * it was not started by a supervisor. */
void child_start(struct child *c, const char *program);

/* Send one JSON object, formatted. They end the process when the supervisor is gone. */
void child_status(struct child *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void child_event(struct child *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A reply of any length to the connection that asked. */
void child_reply(struct child *c, uint32_t connection, const char *json, size_t len);

/* Threads that this process may compute with: OMP_NUM_THREADS of the supervisor's environment, else 1. They
 * are made after the sandbox, so OpenBLAS itself is told to start with one. */
int child_threads(void);

/* For a process whose other process went away: waits to be ended by the supervisor, which starts all of them
 * again. */
_Noreturn void child_orphaned(struct child *c);

/* The i-th NUL-ended word of a frame's header, or NULL. */
const char *child_word(const struct frame *f, size_t i);

#endif

/* peers: the organizations as the core sees them: broadcast a request, gather the answers. All waiting is
 * here. A request is named (run, round, kind), so one that comes back, or restarts, is simply asked again.
 * Knows shapes, not the algorithm. */
#ifndef GAL_PEERS_H
#define GAL_PEERS_H

#include "common/child.h"
#include "common/inbox.h"
#include "sponsor/run.h"

struct peer {
    const char *name;
    uint32_t index; /* at the link: 0 is our own worker */
    bool up, tasked, accepted, asked, answered;
    bool expected; /* asked for what is open now, be it on an earlier connection: its answer may come before
                      it is asked again */
    bool deterministic, linear;
    bool
        invalid; /* its answer to the present request was not a fit: its values count as 0, its weight is 0 */
    struct inbox inbox;
    uint32_t lo, hi, questions; /* ids: the first lo agree, the first hi do not */
};

struct peers {
    struct child *child;
    struct pipe *link;
    struct peer *peer; /* M of them, in the order of the weights */
    size_t M;
    char *names;  /* joined by commas */
    uint32_t *to; /* scratch: M indices */
    uint32_t chunk, dtype;

    struct msg task;        /* the present one; kind 0: none */
    uint32_t *task_rows;    /* a copy: it is sent again to whoever comes back */
    const char *const *ids; /* of the common rows, or NULL */

    struct msg request; /* the present one; kind 0: none */
    uint8_t *payload;
    const double *coefficients; /* of Predict: rounds values per peer, one peer after the other; NULL: none */
    enum msg_kind answer;
    struct shape expect;
    struct mat *into; /* M matrices that take the answers */

    uint64_t bytes_out, bytes_in;                        /* at the link, so far */
    char failure[512];                                   /* why the present task cannot go on; "" if it can */
    void (*serve)(void *context, const struct frame *f); /* requests of the operator while we wait */
    void *context;
    const char *doing; /* for the status: "training", "predicting" */
    uint32_t round;
};

/* The organizations of the configuration: this one's worker if it has [data], then each [peer NAME]. */
void peers_open(struct peers *p, struct child *child, struct pipe *link);

/* From now on every organization that is there, or comes, is given the run's Task; `ids` as in labels. Waits
 * until all have accepted it. 0, or −1 with p->failure. deadline in seconds, 0: none. */
int peers_task(struct peers *p, const struct run *r, const char *const *ids, double deadline);

/* Broadcasts r (FIT rows) as the Fit of round t. */
void peers_broadcast(struct peers *p, const struct run *run, uint32_t t, const struct mat *r);

/* Asks all for predictions of those rows: with coefficients (rounds × M, one organization after the other)
 * for one sum each. */
void peers_ask(struct peers *p, const struct run *run, uint32_t number, const uint32_t *rows, size_t n,
               uint32_t rounds, const double *coefficients);

/* Waits for all answers to what was asked last: f[m] (initialised by the caller to the expected shape) ←
 * organization m's, 0 where absent[m]: the answer was no fit (a value that is not finite). 0, or −1 with
 * p->failure. deadline in seconds, 0: none. */
int peers_gather(struct peers *p, struct mat *f, bool *absent, double deadline);

/* Tells all that the round is over. */
void peers_settle(struct peers *p, const struct run *run, uint32_t t,
                  const uint8_t commitment[static DIGEST_BYTES]);

/* Handles what came from the link, or the operator, without waiting for anything in particular: at most
 * timeout_ms. */
void peers_serve(struct peers *p, int timeout_ms);

/* True if every organization says that its model gives the same fit again. */
bool peers_deterministic(const struct peers *p);

#endif

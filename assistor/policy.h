/* policy: what this organization consents to, per sponsor: [policy], or [policy SPONSOR] where there is one.
 * Consent is asked once per Task and at every use of what is limited; what was used up is on record in
 * worker.db. A sponsor's own worker needs none. */
#ifndef GAL_POLICY_H
#define GAL_POLICY_H

#include "common/conf.h"
#include "common/msg.h"
#include "common/store.h"

struct policy {
    const struct conf *conf;
    const char *sponsor; /* its name in [sponsor NAME]; NULL: our own organization, which needs no consent */
    const char *key;     /* under which usage is stored */
};

/* Table of worker.db. */
extern const char policy_schema[];

/* NULL if the Task may be accepted, else the reason, with the line of the configuration that says so. d:
 * columns of the prepared features; linear: the model is linear in them, so that `d` rounds rebuild them
 * (ALGORITHM.md, privacy). `again`: it was accepted before, and only what is forbidden outright is asked
 * again. */
const char *policy_task(const struct policy *p, struct store *s, const struct msg *task, size_t d,
                        bool linear, bool again);

/* NULL if one more round may be fitted (which then counts, for the life of the data), else the reason. Call
 * inside the transaction that stores the round. */
const char *policy_round(const struct policy *p, struct store *s);

/* NULL if n more rows may be predicted today (UTC; they then count), else the reason. */
const char *policy_predict(const struct policy *p, struct store *s, size_t n);

/* Rounds every answer to the multiple of round_to that is nearest; nothing without that key. */
void policy_round_answers(const struct policy *p, double *a, size_t n);

/* What is consented to and used up, as a JSON object (malloc'd, the caller frees). */
char *policy_status(const struct policy *p, struct store *s);

#endif

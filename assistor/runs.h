/* runs: what an organization has agreed to and fitted, in memory and in worker.db. A run is named by
 * (sponsor's key, run id); its rows, preparation, models and last answer are stored before anything of them
 * is sent. */
#ifndef GAL_RUNS_H
#define GAL_RUNS_H

#include "assistor/features.h"
#include "assistor/model.h"
#include "assistor/policy.h"
#include "common/msg.h"
#include "common/store.h"

/* The organization's own side, the same for all runs. */
struct owner {
    struct table *table;
    const char *columns, *exclude; /* of features_fit */
    const struct model_kind *kind;
    const struct model_param *param;
    size_t n_params;
    struct store store;
};

struct run {
    int64_t id;                  /* its row in worker.db */
    const struct policy *policy; /* of its sponsor */
    struct msg task;
    uint8_t digest[DIGEST_BYTES]; /* of the Task's row list */
    uint32_t *rows;               /* FIT rows, then answer rows */
    struct features *features;
    struct mat X;   /* those rows, prepared */
    void *prepared; /* the model's state for the whole run, or NULL until a Fit is asked */
    void **model;   /* of rounds 1…fitted; loaded when first needed */
    uint32_t fitted;
};

/* Tables of worker.db, and their format. */
extern const char runs_schema[];
enum { RUNS_FORMAT = 1 };

/* The run of that sponsor and id: from `worker.db`, prepared again from the table; NULL with *error empty if
 * it is not there, or with one line in `error` if it cannot be used any more. */
struct run *runs_load(struct owner *o, const struct policy *policy, const uint8_t run[static RUN_BYTES],
                      char *error, size_t size);

/* A new run, if the policy consents: learns the preparation from the FIT rows and stores all of it. Takes
 * over `rows`. NULL with one line in `error`. */
struct run *runs_create(struct owner *o, const struct policy *policy, const struct msg *task,
                        const uint8_t *digest, uint32_t *rows, char *error, size_t size);
void runs_free(struct owner *o, struct run *r);

/* Fits round t = fitted + 1 to residuals r (N_fit×K), stores the model and the answer (as it will be sent,
 * f32 or f64) with the request's digest. Returns the answer (malloc'd, the caller frees), or NULL with one
 * line in `error`. */
uint8_t *runs_fit(struct owner *o, struct run *r, const struct mat *residual, const uint8_t *digest,
                  char *error, size_t size);

/* Keeps what the sponsor committed to for round t: the first one counts. */
void runs_settle(struct owner *o, const struct run *r, uint32_t t, const uint8_t *commitment);

/* The stored answer of round t if its request had that digest; NULL if there is none; *other: there is one to
 * another request. */
uint8_t *runs_answer(struct owner *o, const struct run *r, uint32_t t, const uint8_t *digest, bool *other);

/* f ← the models' values on those rows of the table: with coefficients c (rounds values) Σ_t c[t−1]·f^t
 * (n×K), without them all rounds side by side (n × rounds·K). 0, or −1 with one line in `error`. */
int runs_predict(struct owner *o, struct run *r, const uint32_t *rows, size_t n, const double *c,
                 uint32_t rounds, struct mat *f, char *error, size_t size);

#endif

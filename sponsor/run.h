/* run: one training run of one task: its rows, scores and rounds, in memory and in core.db. A round counts
 * when run_commit has returned; a run that was interrupted goes on from its last round. */
#ifndef GAL_RUN_H
#define GAL_RUN_H

#include "common/msg.h"
#include "common/store.h"
#include "sponsor/labels.h"
#include "sponsor/rows.h"

/* A [task NAME]. */
struct task {
    const char *name;
    const struct loss *L;
    uint32_t rounds, patience;
    bool uniform;      /* weights = uniform */
    double fixed_rate; /* 0: search */
    double validation; /* share; negative: auto */
    bool declare_loss, per_round, manual, capture;
    uint64_t seed;
};

struct round {
    double objective, validation, rate, seconds; /* validation NaN where there are no such rows */
    uint64_t bytes_out, bytes_in;
    double *w; /* M */
};

enum run_state { RUN_RUNNING, RUN_DONE, RUN_FAILED };

struct run {
    int64_t id; /* its row in core.db */
    uint8_t name[RUN_BYTES], trace_key[DIGEST_BYTES];
    char hex[2 * RUN_BYTES + 1];
    char task_name[MSG_NAME], kind[MSG_NAME];
    const struct task *task;
    const struct loss *L;
    size_t M;
    char *organizations; /* M names, joined by commas */
    uint32_t K, T, n_fit, n_answer, common;
    uint32_t *rows; /* positions: FIT rows, then answer rows */
    double *y;      /* n_fit + n_answer labels, in that order */
    double *F0;     /* K */
    struct mat F;   /* (n_fit + n_answer)×K */
    enum run_state state;
    uint32_t t, best_round, requests;
    struct round *round;          /* t of them */
    double objective, validation; /* now */
    char stopped[16], error[512];
    char *classes; /* names, each ended by NUL, the list by an empty one; NULL for numbers */
};

extern const char run_schema[];
enum { RUN_FORMAT = 1 };

/* A new run at F^0, on record before anything is sent; organizations: M names joined by commas. NULL with one
 * line in error. */
struct run *run_begin(struct store *s, const struct task *task, const struct labels *l,
                      const char *organizations, size_t M, char *error, size_t size);

/* The task's run that was interrupted, at its last round, or NULL if there is none (*error empty) or it
 * cannot go on. */
struct run *run_resume(struct store *s, const struct task *task, const struct labels *l,
                       const char *organizations, char *error, size_t size);

/* A run for its predictions: the one named (hex), or the newest that is done. No scores, no labels. NULL if
 * there is none. */
struct run *run_open(struct store *s, const char *hex);
void run_free(struct run *r);

/* True if the task has any run on record. */
bool run_exists(struct store *s, const char *task);

/* Views on the FIT rows (no memory of their own). */
struct mat run_fit_rows(const struct run *r, const struct mat *m);

/* Round t = r->t + 1 is over, F stands: computes objective and validation, puts all on record, chooses the
 * best round. `commitment` receives BLAKE2b-256(salt ‖ η ‖ w) with a salt that stays here. */
void run_commit(struct store *s, struct run *r, const double *w, double eta, double seconds,
                uint64_t bytes_out, uint64_t bytes_in, uint8_t commitment[static DIGEST_BYTES]);

/* Keeps the answers (M × (n×K)) of round t = r->t + 1 for a later replay, if the task says so. Goes on record
 * with the round. */
void run_capture(struct store *s, const struct run *r, const struct mat *f, const bool *absent);

/* The run of that name with its labels, at F^0 but with its rounds, to be replayed. NULL with one line in
 * `error`. */
struct run *run_rewind(struct store *s, const struct run *name, const struct task *task,
                       const struct labels *l, const char *organizations, char *error, size_t size);

/* True if r->F is what is on record; if (η, w) opens the commitment of round t. */
bool run_same_scores(struct store *s, const struct run *r);
bool run_opens(struct store *s, const struct run *r, uint32_t t, const double *w, double eta);

/* The reason to stop after the present round, or NULL: "rounds", "patience", "converged" (ALGORITHM.md). */
const char *run_over(const struct run *r, bool deterministic);

void run_finish(struct store *s, struct run *r, const char *stopped);
void run_fail(struct store *s, struct run *r, const char *error);

/* The next request number of the run, on record. */
uint32_t run_next_request(struct store *s, struct run *r);

#endif

/* model: what an organization must be able to do with its own columns, whatever the kind of model. One file
 * and one line in model.c's registry make a new kind. A model sees a prepared feature matrix and residuals;
 * never a label, never the wire. */
#ifndef GAL_MODEL_H
#define GAL_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include "common/mat.h"

/* Parameters of [model], as text, in the order of the file. */
struct model_param {
    const char *key, *value;
};

struct model_kind {
    const char *name;
    bool deterministic; /* the same residual always gives the same fit */
    bool linear;        /* linear in the features: see ALGORITHM.md, privacy */

    /* NULL if every parameter is known and in range, else the reason (a static or thread-local string). */
    const char *(*check)(const struct model_param *params, size_t n);

    /* State that lives for the whole run: made once from the features of the FIT rows (X: N_fit×d, which must
     * outlive it) and `outputs` K. NULL with errno: ENOMEM, EDOM if X is not finite, EOVERFLOW if it is too
     * large for the method. */
    void *(*prepare)(const struct mat *X, uint32_t outputs, const struct model_param *params, size_t n);

    /* Fits r (N_fit×K) and returns the fitted model of this round, or NULL with errno (ENOMEM; EDOM: r or X
     * is not finite, or too large to compute with). Changes only the prepared state's scratch and what it
     * hands on to the next round. */
    void *(*fit)(void *prepared, const struct mat *r);

    /* f (n×K, initialised by the caller) ← the model's values on X (n×d). 0, or −1 with errno EINVAL on other
     * shapes. */
    int (*predict)(const void *model, const struct mat *X, struct mat *f);

    /* The model as bytes (malloc'd; the caller frees) and back; `load` returns NULL on bytes that are not
     * such a model. */
    uint8_t *(*save)(const void *model, size_t *size);
    void *(*load)(const uint8_t *bytes, size_t size);

    /* After a restart within a run: tells a fresh prepared state the last model it had fitted, so that what
     * one round hands on to the next (λ of `auto`) goes on. NULL if nothing is handed on. */
    void (*resume)(void *prepared, const void *model);

    void (*free_model)(void *model);
    void (*free_prepared)(void *prepared);
};

/* The kinds, one in each model_NAME.c; model.c lists them. */
extern const struct model_kind model_linear;

/* The kind of that name, or NULL. */
const struct model_kind *model_find(const char *name);

/* The registry's kinds: "linear" alone so far, "linear, gb, …" as they come; for messages. */
const char *model_names(void);

#endif

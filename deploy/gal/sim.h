/* sim: the parts of `gal simulate`: one sponsor and M − 1 assistors as real daemons on this host, on columns
 * dealt out of one file. Only here may one process see every column; the daemons get a file each. */
#ifndef GAL_SIM_H
#define GAL_SIM_H

#include "deploy/gal/gal.h"

#include "common/table.h"

#include <jansson.h>
#include <signal.h>
#include <stdint.h>

struct sim_options {
    const char *data, *target, *task, *loss, *orgs_text, *split, *id, *model, *rounds, *solver, *weights,
        *rate;
    const char *fit_on, *validation, *test, *predict, *dtype, *lambda, *baselines, *threads, *seed_text,
        *report, *out;
    struct words set;
    bool keep, json;
    /* from the texts above, by sim_options_check */
    long orgs, seed;
    double test_share;
    bool alone, joint;
};

extern const struct option_row sim_option_rows[];
extern const size_t sim_option_count;
extern const struct sim_options sim_defaults;

/* Everything that can be said about the options before a file is read. 0, or −1 after one line. */
int sim_options_check(struct sim_options *o);

struct columns {
    size_t *col;
    size_t n;
};

enum part { PART_NONE, PART_TRAIN, PART_TEST };

struct sim_data {
    const char *path;
    struct table *table;
    size_t rows, cols, target;
    int id; /* column, or −1: the row's number */
    const char *task;
    size_t orgs;
    struct columns *features; /* of each organization; [0] is the sponsor's */
    uint8_t *part;            /* of each row */
    size_t train, test;
};

/* Reads the file, guesses the task, deals rows and columns. 0, or −1 after one line. Free with sim_data_free
 * either way. */
int sim_data_open(struct sim_data *d, const struct sim_options *o);
void sim_data_free(struct sim_data *d);

/* sim_split.c: which rows and columns are whose, by the seed or by a split file. 0, or −1 after one line. */
int sim_deal_columns(struct sim_data *d, const struct sim_options *o);
int sim_deal_rows(struct sim_data *d, const struct sim_options *o, const size_t *class_of, size_t classes);
int sim_read_split(struct sim_data *d, const struct sim_options *o);
bool sim_is_labelled(const struct sim_data *d, size_t row);

/* sim_files.c: what an organization gets. All return 0, or −1 after one line. */
#define SIM_BATCH 64
int sim_write_features(const struct sim_data *d, char *const *path, const struct columns *c,
                       size_t n); /* n files, at most SIM_BATCH */
int sim_write_labels(const struct sim_data *d, const char *path, enum part part);
const char *sim_id(const struct sim_data *d, size_t row, char number[static 24]);

/* sim_conf.c: a configuration in the making. */
struct conf_draft;
struct conf_draft *conf_draft_new(void);
void conf_draft_free(struct conf_draft *c);
void conf_draft_set(struct conf_draft *c, const char *section, const char *key, const char *value);
/* Applies the --set options that concern organization `name`. */
void conf_draft_override(struct conf_draft *c, const char *name, const struct words *set);
int conf_draft_write(const struct conf_draft *c, const char *path);
/* NULL, or what is wrong with a --set option where there are `orgs` organizations. */
const char *conf_set_check(const char *option, long orgs);

/* sim_daemons.c: the daemons of one federation. */
struct daemons;
extern volatile sig_atomic_t sim_interrupted;
struct daemons *daemons_new(const char *threads);
/* Starts `program` on DIR/NAME/NAME.conf with its messages in DIR/NAME/log. 0, or −1 after one line. */
int daemons_start(struct daemons *d, const char *program, const char *dir, const char *name);
/* Does one of them run no more, or did the user interrupt? Then 1 (it failed) or 2 (it refused its
 * configuration) after one line; otherwise 0. */
int daemons_check(struct daemons *d);
void daemons_show_logs(const struct daemons *d);
/* SIGTERM, two seconds, SIGKILL. NULL allowed. */
void daemons_stop(struct daemons *d);

/* sim_run.c: one run: files, daemons, train, predict. `result` receives the object of the contract's "runs",
 * with "org" names and "rows" beside it. Returns an exit status. */
int sim_run(const struct sim_options *o, const struct sim_data *d, const char *name, const char *dir,
            const struct columns *features, size_t orgs, json_t **result);

/* sim_report.c */
void sim_report_json(const struct sim_options *o, const struct sim_data *d, const json_t *runs);
void sim_report_text(const struct sim_options *o, const struct sim_data *d, const json_t *runs,
                     const char *dir);

/* "sponsor", "org2", …: organization m, from 0. */
const char *sim_org_name(size_t m, char name[static 24]);

#endif

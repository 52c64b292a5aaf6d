/* gal: what the files of the operator's command share. The command talks to a daemon through its control.sock
 * and to files; it holds no feature longer than a simulation needs to deal them out, and speaks to no other
 * host. */
#ifndef GAL_GAL_H
#define GAL_GAL_H

#include "common/msg.h" /* GAL_VERSION */

#include <stdbool.h>
#include <stddef.h>

/* Exit statuses, a contract: other programs call gal. */
enum { GAL_DONE = 0, GAL_FAILED = 1, GAL_USAGE = 2 };

/* One option of a subcommand. FLAG sets a bool; TEXT a const char *; LIST appends to a struct words; MAYBE is
 * TEXT whose value may be left out (then `otherwise`). */
struct option_row {
    enum { OPTION_FLAG, OPTION_TEXT, OPTION_LIST, OPTION_MAYBE } kind;
    char letter; /* or 0 */
    const char *name;
    const char *value; /* what the usage text calls it */
    const char *otherwise;
    const char *help;
    size_t offset; /* in the command's struct of options */
};

struct words {
    const char **word;
    size_t n;
};

struct command {
    const char *name;
    const char *arguments;
    const char *summary;
    const char *details; /* or NULL */
    const struct option_row *options;
    size_t n_options;
    int (*run)(const struct command *self, int argc, char **argv);
};

extern const struct command command_keygen, command_simulate, command_train, command_status, command_predict,
    command_runs, command_trace;

/* Parses argv[1…] by the command's table into `into`, where absent TEXT options keep what stands there. The
 * remaining words go to `rest`: at least `min`, at most `max`. 0, or −1 after one line on standard error.
 * Free with words_free. */
int options_parse(const struct command *c, int argc, char **argv, void *into, size_t min, size_t max,
                  struct words *rest);
void options_help(const struct command *c);
void words_add(struct words *w, const char *word);
void words_free(struct words *w);

/* A whole number or a number that fills the whole text and lies in [lo, hi]; −1 after one line that names
 * `option`. */
int parse_long(const char *option, const char *text, long lo, long hi, long *value);
int parse_real(const char *option, const char *text, double lo, double hi, double *value);

/* Allocation for a short-lived command: ends it with one line when there is no memory. */
void *must_alloc(size_t n, size_t size);
char *must_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "1.4 kB": bytes with three significant digits. */
const char *human_bytes(double bytes, char text[static 16]);

#endif

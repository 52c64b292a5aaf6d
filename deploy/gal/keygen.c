/* keygen: draws an organization's key pair. The secret never passes through this file. */
#include "deploy/gal/gal.h"

#include "common/key.h"
#include "common/log.h"

#include <stdio.h>

struct keygen {
    const char *dir;
};

static const struct option_row options[] = {
    {OPTION_TEXT, 'o', "out", "DIR", NULL, "write the two files there (default: here)",
     offsetof(struct keygen, dir)},
};

static int run(const struct command *self, int argc, char **argv)
{
    struct keygen o = {.dir = "."};
    struct words rest = {0};
    char public[KEY_TEXT], error[512];
    int status = GAL_USAGE;
    if (options_parse(self, argc, argv, &o, 1, 1, &rest))
        goto out;
    const char *name = rest.word[0];
    if (key_generate(o.dir, name, public, error, sizeof error)) {
        log_error("%s", error);
        goto out;
    }
    printf("%s\n", public);
    fprintf(stderr, "gal: wrote %s/%s.key (keep it here) and %s/%s.pub (give its line to the others)\n",
            o.dir, name, o.dir, name);
    status = GAL_DONE;
out:
    words_free(&rest);
    return status;
}

const struct command command_keygen = {
    .name = "keygen",
    .arguments = "NAME [-o DIR]",
    .summary = "make an organization's key pair: NAME.key and NAME.pub",
    .details =
        "The public key goes to standard output: the other organizations write it into their configuration.",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .run = run,
};

/* options: the command line by a table, the same table that makes the usage text; every mistake is one line.
 */
#include "deploy/gal/gal.h"

#include "common/log.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 40
#define FIRST_LONG  256 /* above every letter */

static void store(const struct option_row *row, const char *value, void *into)
{
    char *at = (char *)into + row->offset;
    if (row->kind == OPTION_FLAG)
        *(bool *)(void *)at = true;
    else if (row->kind == OPTION_LIST)
        words_add((struct words *)(void *)at, value);
    else
        *(const char **)(void *)at = value ? value : row->otherwise;
}

static int has_argument(const struct option_row *row)
{
    if (row->kind == OPTION_FLAG)
        return no_argument;
    return row->kind == OPTION_MAYBE ? optional_argument : required_argument;
}

/* getopt's two tables from ours. */
static void translate(const struct command *c, struct option *all, char *letters)
{
    for (size_t i = 0; i < c->n_options; i++) {
        const struct option_row *row = &c->options[i];
        all[i] = (struct option){row->name, has_argument(row), NULL, FIRST_LONG + (int)i};
        if (!row->letter)
            continue;
        *letters++ = row->letter;
        if (row->kind != OPTION_FLAG)
            *letters++ = ':';
    }
    all[c->n_options] = (struct option){0};
    *letters = '\0';
}

static const struct option_row *row_of(const struct command *c, int code)
{
    if (code >= FIRST_LONG)
        return &c->options[code - FIRST_LONG];
    for (size_t i = 0; i < c->n_options; i++)
        if (c->options[i].letter == code)
            return &c->options[i];
    return NULL;
}

int options_parse(const struct command *c, int argc, char **argv, void *into, size_t min, size_t max,
                  struct words *rest)
{
    struct option all[OPTIONS_MAX + 1];
    char letters[2 * OPTIONS_MAX + 1];
    char *program = must_format("gal %s", c->name), *first = argv[0];
    int code, result = 0;
    translate(c, all, letters);
    argv[0] = program;
    optind = 0;
    while (result == 0 && (code = getopt_long(argc, argv, letters, all, NULL)) != -1) {
        const struct option_row *row = row_of(c, code);
        if (row)
            store(row, optarg, into);
        else
            result = -1;
    }
    for (int i = optind; result == 0 && i < argc; i++)
        words_add(rest, argv[i]);
    argv[0] = first;
    free(program);
    if (result == 0 && (rest->n < min || rest->n > max)) {
        log_error("%s: %s: usage: gal %s %s", c->name,
                  rest->n < min ? "something is missing" : "one word too many", c->name, c->arguments);
        result = -1;
    }
    return result;
}

void options_help(const struct command *c)
{
    printf("gal %s %s\n    %s\n", c->name, c->arguments, c->summary);
    for (size_t i = 0; i < c->n_options; i++) {
        const struct option_row *row = &c->options[i];
        char left[64], letter[8] = "    ";
        if (row->letter)
            snprintf(letter, sizeof letter, "-%c, ", row->letter);
        if (row->kind == OPTION_FLAG)
            snprintf(left, sizeof left, "%s--%s", letter, row->name);
        else if (row->kind == OPTION_MAYBE)
            snprintf(left, sizeof left, "%s--%s[=%s]", letter, row->name, row->value);
        else
            snprintf(left, sizeof left, "%s--%s %s", letter, row->name, row->value);
        printf("  %-32s %s\n", left, row->help);
    }
    if (c->details)
        printf("%s\n", c->details);
}

/* gal: the operator's command. This file finds the subcommand; each has a file of its own. */
#include "deploy/gal/gal.h"

#include "common/log.h"

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {
    &command_simulate, &command_keygen, &command_train, &command_status,
    &command_predict,  &command_runs,   &command_trace,
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *out)
{
    fputs("usage: gal COMMAND …\n\n", out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
    fputs("  help      the options of a command: gal help COMMAND\n"
          "\nA first look, in one line: gal simulate DATA.csv --target COLUMN --baselines alone,joint\n",
          out);
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    log_error("there is no command \"%s\": gal help lists them", name);
    return NULL;
}

static int help(const char *name)
{
    const struct command *c = name ? find(name) : NULL;
    if (name && !c)
        return GAL_USAGE;
    if (c)
        options_help(c);
    else
        usage(stdout);
    return GAL_DONE;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 2; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

int main(int argc, char **argv)
{
    log_open("gal", "");
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        usage(stderr);
        return GAL_USAGE;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("gal " GAL_VERSION);
        return GAL_DONE;
    }
    if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        return help(argc > 2 ? argv[2] : NULL);
    const struct command *c = find(argv[1]);
    if (!c)
        return GAL_USAGE;
    if (wants_help(argc, argv))
        return help(c->name);
    if (sodium_init() < 0)
        log_die(GAL_FAILED, "libsodium does not start");
    int status = c->run(c, argc - 1, argv + 1);
    if (fflush(stdout) || ferror(stdout)) {
        log_error("standard output: cannot be written");
        status = status ? status : GAL_FAILED;
    }
    return status;
}

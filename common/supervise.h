/* supervise: the supervisor of an organization's processes. It reads the configuration, wires the pipes,
 * starts the programs, starts them again when one crashes, and ends them. It opens no data and talks to no
 * network. */
#ifndef GAL_SUPERVISE_H
#define GAL_SUPERVISE_H

#include <sys/types.h>

#include "common/conf.h"
#include "common/pipe.h"

enum { SUPERVISE_LINK, SUPERVISE_CORE, SUPERVISE_WORKER, SUPERVISE_CHILDREN };

struct supervised {
    const char *program; /* NULL: this role has none */
    unsigned process;    /* CONF_LINK, … */
    pid_t pid;           /* 0: not running */
    struct pipe *control;
    char *status; /* its last JSON object, or NULL */
};

struct supervisor {
    enum conf_role role;
    struct conf conf;
    const char *name, *state;
    char programs[4096]; /* the folder of the programs */
    struct supervised child[SUPERVISE_CHILDREN];
    unsigned restarts;
    double started, back_off; /* seconds */
    int signals;              /* signalfd */
};

/* main() of gal-sponsor and gal-assistor: runs until SIGTERM or SIGINT (0), or until a child says that going
 * on makes no sense (its exit status). */
int supervise_main(int argc, char **argv, enum conf_role role);

#endif

/* sandbox: gives up, for good, every right that a process of ours does not need: files by Landlock, system
 * calls by seccomp. Called at the top of each program, before anything from outside is read and before any
 * thread exists. docs/SECURITY.md has the table of what each role may do, and the tests that try the rest. */
#ifndef GAL_SANDBOX_H
#define GAL_SANDBOX_H

#include "common/child.h"

enum { SANDBOX_PATHS = 8 };

struct sandbox {
    const char *read[SANDBOX_PATHS]; /* files, or directories with all below them; NULL-ended */
    const char
        *write[SANDBOX_PATHS]; /* directories in which files may be made, changed and removed; NULL-ended */
};

/* Nothing but these paths can be opened from now on, nothing can be executed, and the system calls that the
 * supervisor's filter names fail with EPERM. [sandbox] mode: `require` ends the process where the kernel
 * lacks a mechanism and says which; `prefer` says which and goes on with the rest; `off` says so and does
 * nothing. */
void sandbox_enter(const struct child *c, const struct sandbox *rights);

#endif

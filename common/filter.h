/* filter: the seccomp programs of the supervised processes, made by libseccomp in the supervisor, installed
 * by each process itself (sandbox). What they name fails with EPERM; what they do not name is for Landlock to
 * decide. */
#ifndef GAL_FILTER_H
#define GAL_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* network: for gal-link, which has IP sockets; else for a process that has none at all. The BPF program
 * (malloc'd, the caller frees), or NULL. */
uint8_t *filter_build(bool network, size_t *size);

#endif

/* fuzz: what the fuzz targets share. A target is one function on some bytes: libFuzzer calls it with what it
 * invents, replay.c with the files of its corpus. Where an input is a script, it is a sequence of operations
 * (u8 operation, u16 length, bytes); what is missing reads as 0, so every input is a script and a mutation of
 * one mostly changes one operation. */
#ifndef GAL_FUZZ_H
#define GAL_FUZZ_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program with the condition's text: a finding. */
#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            fuzz_found(#condition, __FILE__, __LINE__);                                                      \
    } while (0)
_Noreturn void fuzz_found(const char *what, const char *file, int line);

/* A file in memory with those bytes, always the same one: its descriptor. fuzz_path names it. */
int fuzz_file(const void *bytes, size_t size);
const char *fuzz_path(void);

/* Reads n bytes, so that a sanitizer sees whether they are there. */
void fuzz_touch(const void *bytes, size_t n);

/* log_die returns here, if its line begins with fuzz_may_die; any other end of the process is a finding. */
extern jmp_buf fuzz_died;
extern const char *fuzz_may_die;

/* ---- scripts ---- */

struct script {
    const uint8_t *p, *end;
};

struct operation {
    uint8_t code;
    const uint8_t *p, *end;
};

/* The next operation, or false at the end. */
bool script_next(struct script *s, struct operation *o);

/* The operation's next bytes, little-endian; 0 where there are none. */
uint8_t take_u8(struct operation *o);
uint32_t take_u32(struct operation *o);

/* Operations 10…30 are messages of that kind. Their bytes: u8 who (run number in the low half, 0 none; peer
 * in the high half), u8 round, then what the kind holds. Digests of chunks and transfers are for the target
 * to fill in. */
bool operation_is_message(const struct operation *o);
void take_msg(struct operation *o, struct msg *m, uint8_t *peer);

/* The n-th run's name. */
void fuzz_run(uint8_t n, uint8_t run[static RUN_BYTES]);

/* ids of the rows where a target has some: fuzz_ids[0…FUZZ_IDS). take_msg knows their digest. */
enum { FUZZ_IDS = 6 };
extern const char *const fuzz_ids[FUZZ_IDS];

/* What our own process or link is given must be a message: packs it, reads it back, and touches the payload.
 */
void fuzz_check_sent(const struct msg *m, const void *payload, size_t len);

#endif

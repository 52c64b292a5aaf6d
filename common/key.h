/* key: an organization's Curve25519 key pair, in its file and in memory. The only room that holds a secret:
 * it lives in sodium's guarded memory, is never logged, never copied into an ordinary buffer, and is wiped
 * when it is given back.
 *
 * NAME.key (mode 0600) has three lines: `gal-key-v1`, NAME, the secret key in Z85 (40 characters).
 * NAME.pub has one: the public key in Z85. Z85 is ZeroMQ's text form of bytes (RFC 32). */
#ifndef GAL_KEY_H
#define GAL_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_BYTES    32
#define KEY_TEXT     41 /* 40 characters of Z85 and a NUL */
#define KEY_NAME_MAX 40

struct key;

/* Is it a name for an organization or a task: [A-Za-z0-9_.-]{1,40}, and not "." or ".."? */
bool key_name_valid(const char *name);

/* Draws a key pair and writes DIR/NAME.key and DIR/NAME.pub, both or neither; a file that is there is never
 * overwritten. `public` receives the public key's text. 0, or −1 with one line in `error` (size bytes). */
int key_generate(const char *dir, const char *name, char public[static KEY_TEXT], char *error, size_t size);

/* Reads a key file from its first byte, wherever fd stands; `path` is for messages alone. Refuses a file that
 * somebody else owns or may read. NULL on failure with one line in `error`. Free with key_free (NULL
 * allowed), which wipes it. */
struct key *key_load(int fd, const char *path, char *error, size_t size);
void key_free(struct key *key);

/* KEY_BYTES each, owned by the key; the name is NUL-terminated. */
const uint8_t *key_secret(const struct key *key);
const uint8_t *key_public(const struct key *key);
const char *key_name(const struct key *key);

/* n bytes (a multiple of 4) to n·5/4 characters and a NUL. */
void key_z85_encode(const uint8_t *bytes, size_t n, char *text);

/* Exactly n·5/4 characters back to n bytes. −1 if the length differs, a character is not Z85's or a group of
 * five is above 2^32 − 1. */
int key_z85_decode(const char *text, uint8_t *bytes, size_t n);

#endif

/* log: one line per event on standard error, "gal-link clinic: …". Never a value of data, a label or a key.
 */
#ifndef GAL_LOG_H
#define GAL_LOG_H

/* Names this process in every later line; both strings must outlive the process. */
void log_open(const char *program, const char *organization);

void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Like log_error, but at most one line per kind (a small number chosen by the caller) and 10 s; a line that
 * follows suppressed ones says how many there were. */
#define LOG_KINDS 16
void log_limited(unsigned kind, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Logs the line and ends the process with that exit status (1 the run failed, 2 bad usage or input). */
_Noreturn void log_die(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

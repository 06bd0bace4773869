/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What is said on stderr, the last words of a program that broke a contract among it. */
#ifndef BASE_REPORT_H
#define BASE_REPORT_H

#include <stdbool.h>
#include <stddef.h>

/* Writes all of it, whatever signals come; what has no room in a pipe that does not wait is dropped. False if not
 * all was written. No cancellation point, and errno is left alone: it is called in the midst of calls that say
 * nothing of either. */
bool tell(const char *text, size_t n);

/* Print "libsheaf: " and the message to stderr, then abort(). */
__attribute__((noreturn, format(printf, 1, 2))) void fatal(const char *format, ...);

#endif

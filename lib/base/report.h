/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The last words of a program that broke a contract. */
#ifndef BASE_REPORT_H
#define BASE_REPORT_H

/* Print "libsheaf: " and the message to stderr, then abort(). */
__attribute__((noreturn, format(printf, 1, 2))) void fatal(const char *format, ...);

#endif

/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Children of tests of fork(). They return numbers: nothing asserts in a child, and none
 * goes through exit(), which would end what is the parent's. One that hangs is killed from
 * outside, because liburcu-bp blocks all signals while it waits.
 */
#ifndef TESTS_COMMON_CHILD_H
#define TESTS_COMMON_CHILD_H

#include <sys/types.h>

/* Not an exit status: the child hung and was killed, was killed by a signal, was not born. */
enum { CHILD_HUNG = 1000, CHILD_UNBORN, CHILD_SIGNAL };

/* The exit status of a child, or CHILD_HUNG, CHILD_UNBORN (pid < 0), CHILD_SIGNAL + n. */
int child_end(pid_t pid);

#endif

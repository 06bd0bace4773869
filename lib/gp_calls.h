/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Short calls into liburcu that a fork must not cut in two: call_rcu() and the like, made by
 * whoever takes a ticket. Explained in gp_calls.c.
 */
#ifndef GP_CALLS_H
#define GP_CALLS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * From here to leave no fork happens. While one goes on this waits for its end, `patience_ns` at
 * most (0: not at all). False if it goes on after that, and at once in a child that is torn. What
 * is between must not wait for read sections nor for a fork.
 */
bool gp_calls_enter(uint64_t patience_ns);
void gp_calls_leave(void);

/* Was this process forked in the middle of a call? What that was about is half done for ever. */
bool gp_calls_are_torn(void);

/* Forks are kept out from the first call on. 0 or -ENOMEM. */
int gp_calls_init(void);

/* The fork handlers, for tests. */
void gp_calls_fork_prepare(void);
void gp_calls_fork_parent(void);
void gp_calls_fork_child(void);

#endif

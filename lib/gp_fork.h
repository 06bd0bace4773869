/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What fork() needs of grace periods: a gate that keeps them out while it goes on, and
 * a number by which sources tell that they are in a child. Explained in gp_fork.c.
 *
 * The first three are for the fork handlers of the layers above. Their prepare handler
 * calls gp_fork_prepare() before it takes any lock that a read section may wait for,
 * whoever registered first: it waits for read sections to end. All three may be called by
 * any number of handlers; the first call of a fork does it, the others do nothing.
 */
#ifndef GP_FORK_H
#define GP_FORK_H

#include <sheaf/gp.h>

/* No period that can be kept out begins from now on; waits for those that run. */
void gp_fork_prepare(void);

/* After that in the parent, and in the child. */
void gp_fork_parent(void);
void gp_fork_child(void);

/*
 * For the urcu source.
 */

/* Between these two the caller runs a period. Waits while a fork goes on. */
void gp_gate_enter(void);
void gp_gate_leave(void);

/* Has the flavour fork hooks of its own, which protect it if the program calls them? Its
 * periods stay out of the gate. */
bool gp_fork_own_hooks(const struct rcu_flavor_struct *flavor);

/* 1 at first, one more in each child. */
extern uint32_t gp_fork_generation;

/*
 * A lock in one word, 0 at first, which nobody holds in a child: it holds the number of the
 * process in which it was taken. Seldom taken, so who leaves wakes without asking if anybody waits.
 */
bool gp_lock_try(uint32_t *word);
void gp_lock(uint32_t *word);
void gp_unlock(uint32_t *word);

/* Was this process forked in the middle of a period? The locks of that flavour are held for
 * ever. */
bool gp_fork_is_torn(void);

/* From the first to the second, forks ask the flavour (NULL: no flavour of liburcu) if they are in a
 * section of it. 0 or -ENOMEM. */
int gp_fork_register(const struct rcu_flavor_struct *flavor);
void gp_fork_unregister(const struct rcu_flavor_struct *flavor);

#endif

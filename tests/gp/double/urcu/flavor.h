/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A flavour with polled grace periods, as liburcu has it since 0.14, for builds with an
 * older one: what the sources use, by the same names. Tests bring the functions.
 */
#ifndef TESTS_GP_DOUBLE_FLAVOR_H
#define TESTS_GP_DOUBLE_FLAVOR_H

#include <stdbool.h>

struct rcu_head;

struct urcu_gp_poll_state {
	unsigned long grace_period_id;
};

struct rcu_flavor_struct {
	void (*read_lock)(void);
	void (*read_unlock)(void);
	int (*read_ongoing)(void);
	void (*thread_offline)(void);
	void (*thread_online)(void);
	void (*update_call_rcu)(struct rcu_head *head, void (*func)(struct rcu_head *head));
	struct urcu_gp_poll_state (*update_start_poll_synchronize_rcu)(void);
	bool (*update_poll_state_synchronize_rcu)(struct urcu_gp_poll_state state);
};

#endif

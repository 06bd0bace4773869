/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Whoever waits for a grace period must not be in a read section, or it waits for itself. */
#ifndef GP_READER_H
#define GP_READER_H

#include "base/report.h"

#include <stdbool.h>
#include <urcu/flavor.h>

/*
 * Out of what holds up grace periods, before a wait; aborts with a message if that is a read
 * section. A registered qsbr thread counts as a reader all the time and goes offline; for
 * the other flavours that is a no-op. Returns what gp_reader_online() wants to know.
 */
static inline bool gp_reader_offline(const struct rcu_flavor_struct *flavor)
{
	bool reader = flavor->read_ongoing();

	if (reader) {
		flavor->thread_offline();
		/* cppcheck-suppress identicalInnerCondition ; going offline changes the answer */
		if (flavor->read_ongoing())
			fatal("waiting for a grace period inside a read section");
	}
	return reader;
}

static inline void gp_reader_online(const struct rcu_flavor_struct *flavor, bool reader)
{
	if (reader)
		flavor->thread_online();
}

#endif

/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "lazy.h"

#include "base/atomic.h"
#include "base/compiler.h"

static struct lazy *lazy_of(struct sheaf_gp *gp)
{
	return container_of(gp, struct lazy, gp);
}

static uint64_t lazy_ticket(struct sheaf_gp *gp)
{
	return fetch_add_acq_rel(&lazy_of(gp)->now, 0);
}

static int lazy_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	if (lazy_of(gp)->meanwhile)
		lazy_of(gp)->meanwhile();
	while (!sheaf_gp_elapsed(gp, ticket)) {
		uint64_t step = fetch_add_acq_rel(&lazy_of(gp)->now, 1);
		uint64_t completed = load_acquire(&gp->completed);

		/* Another waiter may have been further already. */
		while (!sheaf_gp_not_after(step, completed) && !cas_acq_rel(&gp->completed, &completed, step))
			;
	}
	return 0;
}

static bool lazy_read_ongoing(struct sheaf_gp *gp)
{
	(void)gp;
	return false;
}

static void lazy_mark(void)
{
}

static const struct sheaf_gp_ops lazy_ops = {
	.name = "lazy",
	.ticket = lazy_ticket,
	.wait = lazy_wait,
	.read_ongoing = lazy_read_ongoing,
};

void lazy_begin(struct lazy *lazy)
{
	*lazy = (struct lazy){.gp = {.ops = &lazy_ops, .read_lock = lazy_mark, .read_unlock = lazy_mark},
			      .now = 1};
}

/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The manual source: `now` is the ticket that the next step completes.
 *
 * ticket() returns now + 0 by a read-modify-write; a step first moves `now` on by one
 * with a read-modify-write and then publishes the old value as completed. A ticket t
 * is handed out only while now == t, so it was taken before the step that completes t
 * began, and that step is the owner's word that all sections up to then have ended.
 *
 * Guarantee: elapsed(t) implies a step began after t was taken and has ended.
 * Edges: ticket (acq_rel on now) -> step (acq_rel on now) -> completed (release) ->
 * elapsed (acquire).
 *
 * fork() needs nothing. If the owner vanished inside a step, `now` may be one ahead of
 * what the child will see completed; the next step there completes a later ticket, and
 * with it all before.
 */
#include <sheaf/gp.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <errno.h>

static struct sheaf_gp_manual *manual_of(struct sheaf_gp *gp)
{
	return container_of(gp, struct sheaf_gp_manual, gp);
}

static uint64_t manual_ticket(struct sheaf_gp *gp)
{
	/* acq_rel: partner fetch_add in sheaf_gp_manual_step() */
	return fetch_add_acq_rel(&manual_of(gp)->now, 0);
}

static int manual_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	return sheaf_gp_elapsed(gp, ticket) ? 0 : -EDEADLK;
}

static bool manual_read_ongoing(struct sheaf_gp *gp)
{
	(void)gp;
	return false;
}

static void manual_read_mark(void)
{
}

static const struct sheaf_gp_ops manual_ops = {
	.name = "manual",
	.ticket = manual_ticket,
	.wait = manual_wait,
	.read_ongoing = manual_read_ongoing,
};

void sheaf_gp_manual_init(struct sheaf_gp_manual *manual, uint64_t first)
{
	*manual = (struct sheaf_gp_manual){
		.gp = {
			.ops = &manual_ops,
			.read_lock = manual_read_mark,
			.read_unlock = manual_read_mark,
			.completed = first - 1,
		},
		.now = first,
	};
}

void sheaf_gp_manual_step(struct sheaf_gp_manual *manual)
{
	/* acq_rel: partner manual_ticket() */
	uint64_t ticket = fetch_add_acq_rel(&manual->now, 1);

	sheaf_edge_acquire(&manual->gp);
	/* release: partner sheaf_gp_elapsed() */
	store_release(&manual->gp.completed, ticket);
	PROBE(gp_end, manual, ticket);
}

/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A look into the sheaves of a barn. Nobody looks at a sheaf that he does not own (barn.c), so the
 * visitor becomes the owner of each for a moment, and puts it back where it was.
 *
 *  V1  A cell: clearing its bit makes the visitor the owner, as any taker (G1). Setting it again is
 *      what a giver does. In between the cell is not vacant, as its sheaf is not taken out, so no
 *      giver comes to it; and another taker goes on to the next lower one. Nothing is counted, for
 *      nothing was given or taken: gives of the cell stay, and what is held is read off the bits.
 *  V2  The chain: all of it by one exchange, and put back as a whole, which chain_take() does with
 *      what it leaves. What was pushed meanwhile comes behind it. Its counts stay.
 *  V3  Meanwhile a taker may miss what the visitor has, as G8 says, and goes to the next layer.
 *  V4  A child that is forked meanwhile finds the cell leaving, and fills it again (G9). The chain in
 *      the visitor's hands is not there (G11).
 */
#include "barn_visit.h"

#include "base/atomic.h"

static void visit_cell(struct sheaf_barn_side *side, unsigned i, barn_visit_fn *fn, void *arg)
{
	uint64_t bit = UINT64_C(1) << i;

	/* acquire: V1, partner fetch_or_acq_rel in cell_put(), or below */
	if (!(fetch_and_acquire(&side->filled, ~bit) & bit))
		return;
	fn(arg, load_relaxed(&side->cells[i].sheaf));
	/* release: V1, partner fetch_and_acquire in cell_take_at(), or above */
	fetch_or_release(&side->filled, bit);
}

static void visit_chain(struct sheaf_barn_side *side, barn_visit_fn *fn, void *arg)
{
	struct sheaf *first = NULL, *last = NULL, *sheaf, *head = NULL;

	if (load_relaxed(&side->chain))
		/* acquire: V2, partner the CAS in chain_link() */
		first = exchange_acquire(&side->chain, NULL);
	for (sheaf = first; sheaf; sheaf = sheaf->link) {
		fn(arg, sheaf);
		last = sheaf;
	}
	if (!last)
		return;
	do {
		last->link = head;
		/* release: V2, partner the exchanges in barn.c */
	} while (!cas_weak_release(&side->chain, &head, first));
}

void barn_visit(struct sheaf_barn *barn, barn_visit_fn *fn, void *arg)
{
	unsigned i;

	for (i = 0; i < SHEAF_BARN_CELLS; i++)
		visit_cell(&barn->full, i, fn, arg);
	visit_chain(&barn->full, fn, arg);
}

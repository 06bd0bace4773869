/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The truth that readers are checked against: for a choice of addresses of each
 * space, what the address was after each write. It is made before the replay by a
 * plain sequential model that shares no code with the tree, the cache or the replay.
 *
 * Immutable once made: any number of threads may ask.
 */
#ifndef TOOLS_SHADOW_H
#define TOOLS_SHADOW_H

#include "plan.h"

/* What an address is: its prot, or this. */
#define SHADOW_HOLE 0xffu

/* After write `write` the address is `state`. */
struct shadow_change {
	uint32_t write;
	uint8_t state;
};

struct shadow_space {
	uint64_t *probes;	       /* addresses, ascending */
	uint32_t probe_count;
	uint32_t writes;	       /* of this space, its end included */
	uint32_t *hot;		       /* per write from 0 on: a probe near what it touched */
	uint32_t *begin;	       /* changes of probe i: begin[i] .. begin[i + 1] - 1 */
	struct shadow_change *changes; /* ascending by write; the first is of write 0 */
};

struct shadow {
	struct shadow_space *spaces;
	uint32_t count;
};

/* Returns 0, or -1 with trace->error set (no memory); shadow_free() is due in both cases. */
int shadow_make(struct shadow *shadow, const struct plan *plan, struct trace *trace);
void shadow_free(struct shadow *shadow);

/* Was probe @probe in @state after any of the writes @from .. @to? */
bool shadow_allows(const struct shadow_space *space, uint32_t probe, uint32_t from, uint32_t to,
		   uint8_t state);

#endif

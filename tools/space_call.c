/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What each memory call does to an address space. A recording tells arguments and
 * results, so nothing is decided here but what follows from them; where they contradict
 * the map that was built so far, the recording (or this program) is wrong, and the
 * call is reported with its line.
 */
#include "address_space.h"

/* Where the kernel looks for room from: vm.mmap_min_addr as it usually is. */
#define LOWEST UINT64_C(65536)
#define HUGE ((UINT64_C(1) << 21) - 1)

static int refuse(struct spaces *spaces, const struct trace_event *event, const char *what)
{
	return trace_fail(spaces->trace, event->line, "%s", what);
}

static int replace_one(struct spaces *spaces, struct address_space *space, uint64_t first,
		       uint64_t last, struct vma_kind kind)
{
	spaces->pieces.count = 0;
	if (piece_add(spaces, &spaces->pieces, (struct piece){first, last, true, kind}))
		return -1;
	return space_replace(spaces, space, first, last);
}

static int remove_range(struct spaces *spaces, struct address_space *space, uint64_t first,
			uint64_t last)
{
	spaces->pieces.count = 0;
	return space_replace(spaces, space, first, last);
}

/*
 * Where would the tree place this mapping? As the kernel does: where the program wished,
 * if that is free, else at the highest gap below the base. The base itself is not
 * recorded; whatever the kernel picked lies below it.
 */
static void ask_place(struct spaces *spaces, struct address_space *space,
		      const struct trace_event *event)
{
	uint64_t wish = (event->addr + spaces->trace->page - 1) & ~(spaces->trace->page - 1);
	uint64_t place = wish, end = event->result + event->len;

	spaces->counts.places++;
	if (wish < LOWEST || wish > UINT64_MAX - event->len ||
	    !space_is_free(space, wish, wish + event->len - 1)) {
		if (space->mmap_base <= LOWEST ||
		    sheaf_tree_highest_gap(space->tree, LOWEST, space->mmap_base - 1, event->len, 0, &place))
			place = 0;
	}
	if (place == event->result)
		spaces->counts.places_same++;
	else if (event->len > HUGE && !(event->result & HUGE))
		spaces->counts.places_huge++;
	if (end > space->mmap_base && event->result != wish)
		space->mmap_base = end;
}

static int call_mmap(struct spaces *spaces, struct address_space *space,
		     const struct trace_event *event)
{
	uint64_t first = event->result, last = event->result + event->len - 1;
	struct vma_kind kind = {.prot = event->prot,
				.anonymous = (event->flags & TRACE_ANON) && !(event->prot & TRACE_S)};

	if (!(event->flags & TRACE_FIXED) && !space_is_free(space, first, last))
		return refuse(spaces, event, event->flags & TRACE_NOREPLACE ?
			      "mmap: MAP_FIXED_NOREPLACE succeeded where something is mapped" :
			      "mmap: the kernel chose a place where something is mapped");
	if (!(event->flags & (TRACE_FIXED | TRACE_NOREPLACE | TRACE_LOW)))
		ask_place(spaces, space, event);
	return replace_one(spaces, space, first, last, kind);
}

/* The stack grew down to @address without a call, if only a hole lies between. */
static int grow_stack(struct spaces *spaces, struct address_space *space, uint64_t address)
{
	const struct vma *vma = space_find(space, address);

	if (!vma || !vma->kind.stack || vma->first <= address)
		return 0;
	spaces->counts.stack_growths++;
	return replace_one(spaces, space, address, vma->last, vma->kind);
}

/* The part of a range up to the first hole; its last address, first - 1 if none. */
static uint64_t mapped_until(const struct address_space *space, uint64_t first, uint64_t last)
{
	uint64_t at = first;
	const struct vma *vma;

	while (at <= last && (vma = space_find(space, at)) && vma->first <= at)
		at = vma->last + 1;
	return at > last ? last : at - 1;
}

/* Replace what is mapped in a range by itself with another prot or another nofork. */
static int change_range(struct spaces *spaces, struct address_space *space, uint64_t first,
			uint64_t last, const uint8_t *prot, bool nofork)
{
	bool changes = false;
	const struct vma *vma;

	spaces->pieces.count = 0;
	for (uint64_t at = first; at <= last; at = vma->last + 1) {
		struct piece piece;

		vma = space_find(space, at);
		if (!vma || vma->first > last)
			break;
		piece = (struct piece){vma->first > first ? vma->first : first,
				       vma->last < last ? vma->last : last, true, vma->kind};
		if (prot)
			piece.kind.prot = (uint8_t)(*prot | (vma->kind.prot & TRACE_S));
		else
			piece.kind.nofork = nofork;
		changes |= piece.kind.prot != vma->kind.prot || piece.kind.nofork != vma->kind.nofork;
		if (piece_add(spaces, &spaces->pieces, piece))
			return -1;
	}
	return changes ? space_replace(spaces, space, first, last) : 0;
}

static int call_mprotect(struct spaces *spaces, struct address_space *space,
			 const struct trace_event *event)
{
	uint64_t first = event->addr, last = event->addr + event->len - 1, end;

	if (!(event->flags & TRACE_PREFIX) && grow_stack(spaces, space, first))
		return -1;
	if (event->flags & TRACE_GROWSDOWN) {
		const struct vma *vma = space_find(space, first);

		if (vma && vma->first < first)
			first = vma->first;
	}
	end = mapped_until(space, first, last);
	if (event->flags & TRACE_PREFIX) {
		/* Without a hole it failed for another reason, before any change. */
		if (end == last || end + 1 == first)
			return 0;
		last = end;
	} else if (end != last) {
		return refuse(spaces, event, "mprotect: it succeeded over a hole");
	}
	return change_range(spaces, space, first, last, &event->prot, false);
}

/*
 * The new range first, then the old one: each address changes once, and nothing is ever
 * mapped nowhere. The copy is taken from the map before either.
 */
static int move_range(struct spaces *spaces, struct address_space *space,
		      const struct trace_event *event)
{
	uint64_t kept = event->len < event->new_len ? event->len : event->new_len;
	uint64_t last = event->addr + kept - 1;
	const struct vma *vma;

	spaces->pieces.count = 0;
	for (uint64_t at = event->addr; at <= last; at = vma->last + 1) {
		struct piece piece;

		vma = space_find(space, at);
		if (!vma || vma->first > last)
			break;
		piece = (struct piece){vma->first > at ? vma->first : at, vma->last, true, vma->kind};
		/* The last mapping takes the growth. */
		if (piece.last >= last)
			piece.last = event->addr + event->new_len - 1;
		piece.first += event->result - event->addr;
		piece.last += event->result - event->addr;
		if (piece_add(spaces, &spaces->pieces, piece))
			return -1;
	}
	if (!spaces->pieces.count)
		return refuse(spaces, event, "mremap: nothing is mapped in the old range");
	if (space_replace(spaces, space, event->result, event->result + event->new_len - 1))
		return -1;
	if (event->flags & TRACE_KEEP)
		return 0;
	return remove_range(spaces, space, event->addr, event->addr + event->len - 1);
}

static int call_mremap(struct spaces *spaces, struct address_space *space,
		       const struct trace_event *event)
{
	uint64_t last = event->addr + event->len - 1, new_last = event->result + event->new_len - 1;
	const struct vma *vma;

	if (event->result != event->addr) {
		if (!(event->flags & TRACE_FIXED) && !space_is_free(space, event->result, new_last))
			return refuse(spaces, event,
				      "mremap: the kernel chose a place where something is mapped");
		return move_range(spaces, space, event);
	}
	if (new_last < last)
		return remove_range(spaces, space, new_last + 1, last);
	if (new_last == last)
		return 0;
	vma = space_find(space, last);
	if (!vma || vma->first > last)
		return refuse(spaces, event, "mremap: nothing is mapped in the old range");
	if (!space_is_free(space, last + 1, new_last))
		return refuse(spaces, event, "mremap: it grew onto another mapping");
	return replace_one(spaces, space, last + 1, new_last, vma->kind);
}

static int call_brk(struct spaces *spaces, struct address_space *space,
		    const struct trace_event *event)
{
	struct vma_kind kind = {.prot = TRACE_R | TRACE_W, .anonymous = true};
	uint64_t mask = ~(spaces->trace->page - 1), from, to;

	if (!space->brk && event->addr)
		return refuse(spaces, event, "brk: nothing tells where the break was: no brk(NULL) before");
	from = (space->brk + spaces->trace->page - 1) & mask;
	to = (event->result + spaces->trace->page - 1) & mask;
	if (!space->brk)
		from = to;
	space->brk = event->result;
	if (to < from)
		return remove_range(spaces, space, to, from - 1);
	if (to == from)
		return 0;
	if (!space_is_free(space, from, to - 1))
		return refuse(spaces, event, "brk: it grew onto another mapping");
	return replace_one(spaces, space, from, to - 1, kind);
}

static int do_call(struct spaces *spaces, struct address_space *space,
		   const struct trace_event *event)
{
	switch (event->kind) {
	case TRACE_MMAP:
		return call_mmap(spaces, space, event);
	case TRACE_MUNMAP:
		return remove_range(spaces, space, event->addr, event->addr + event->len - 1);
	case TRACE_MPROTECT:
		return call_mprotect(spaces, space, event);
	case TRACE_MREMAP:
		return call_mremap(spaces, space, event);
	case TRACE_BRK:
		return call_brk(spaces, space, event);
	case TRACE_ADVISE:
		return change_range(spaces, space, event->addr, event->addr + event->len - 1, NULL,
				    event->flags & TRACE_NOFORK);
	default:
		return refuse(spaces, event, "not a memory call");
	}
}

int space_call(struct spaces *spaces, uint32_t id, const struct trace_event *event)
{
	struct address_space *space = spaces->table[id];
	int result;

	space_begin(space);
	result = do_call(spaces, space, event);
	/* One that failed stays begun for ever: who knows how far it came. */
	if (!result)
		space_finish(space);
	return result;
}

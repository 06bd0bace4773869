/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that address spaces do what memory calls do: random calls are made on
 * trees of VMA objects and on the flat model (a sorted array), and after each call both
 * must show the same map, the tree must be sound, and each object must know its own
 * range. Forks inherit, and no object is lost, also when memory runs out on the way.
 */
#include "address_space.h"
#include "shadow_flat.h"

#include "common.h"

#include <sheaf/gp.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#define PAGE 4096u
#define PAGES 48u
#define BASE UINT64_C(0x100000)
#define STACK (BASE + (PAGES + 9) * PAGE)
#define HEAP UINT64_C(0x800000)
#define SPACES 4u

static struct sheaf_gp_urcu urcu;
static struct trace trace;
static struct spaces spaces;
static struct flat flats[SPACES];
static uint64_t seed;

static uint64_t below(uint64_t n)
{
	return test_below(&seed, n);
}

static void begin(void)
{
	static char path[] = "random";

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL), 0);
	trace = (struct trace){.path = path, .page = PAGE};
	memset(flats, 0, sizeof(flats));
}

/* A map with a few ranges and a stack. */
static struct trace_map first_map(void)
{
	static struct trace_range ranges[] = {
		{BASE, BASE + 3 * PAGE - 1, TRACE_R | TRACE_X, false},
		{BASE + 3 * PAGE, BASE + 4 * PAGE - 1, TRACE_R | TRACE_W, false},
		{BASE + 9 * PAGE, BASE + 20 * PAGE - 1, TRACE_R, false},
		{STACK, STACK + 3 * PAGE - 1, TRACE_R | TRACE_W, true},
	};

	trace.ranges = ranges;
	return (struct trace_map){.begin = 0, .count = sizeof(ranges) / sizeof(*ranges)};
}

static bool is_free(const struct flat *flat, uint64_t first, uint64_t last)
{
	size_t i = flat_find(flat, first);

	return i == flat->count || flat->ranges[i].first > last;
}

static bool is_full(const struct flat *flat, uint64_t first, uint64_t last)
{
	for (uint64_t at = first; at <= last; at += PAGE)
		if (is_free(flat, at, at))
			return false;
	return true;
}

static void random_range(uint64_t *first, uint64_t *len)
{
	uint64_t page = below(PAGES);

	*first = BASE + page * PAGE;
	*len = (1 + below(below(4) ? 6 : PAGES - page)) * PAGE;
	if (page + *len / PAGE > PAGES)
		*len = (PAGES - page) * PAGE;
}

static bool random_remap(const struct flat *flat, struct trace_event *event)
{
	uint64_t page, last = event->addr + event->len - 1;

	event->kind = TRACE_MREMAP;
	event->new_len = (1 + below(8)) * PAGE;
	if (is_free(flat, event->addr, last))
		return false;
	if (below(3) == 0) {
		event->result = event->addr;
		return event->new_len <= event->len ||
		       (is_full(flat, last, last) && event->addr + event->new_len <= BASE + PAGES * PAGE &&
			is_free(flat, last + 1, event->addr + event->new_len - 1));
	}
	page = below(PAGES - 8);
	event->result = BASE + page * PAGE;
	if (event->result <= last && event->addr < event->result + event->new_len)
		return false;
	event->flags = below(4) ? 0 : TRACE_KEEP;
	if (!is_free(flat, event->result, event->result + event->new_len - 1))
		event->flags |= TRACE_FIXED;
	/* The kernel moves no first page that is not there. */
	return !is_free(flat, event->addr, event->addr + (event->len < event->new_len ? event->len :
							  event->new_len) - 1);
}

/* Some call that the kernel could have granted; false if this one could not be. */
static bool random_event(const struct flat *flat, struct trace_event *event)
{
	static const uint8_t prots[] = {0, TRACE_R, TRACE_R | TRACE_W, TRACE_R | TRACE_X};
	uint64_t last;

	*event = (struct trace_event){.line = 1, .map = TRACE_NO_MAP, .prot = prots[below(4)]};
	random_range(&event->addr, &event->len);
	last = event->addr + event->len - 1;
	switch (below(12)) {
	case 0:
	case 1:
	case 2:
	case 3:
		event->kind = TRACE_MMAP;
		event->result = event->addr;
		event->flags = below(3) ? TRACE_ANON : 0;
		if (!below(4))
			event->prot |= TRACE_S;
		if (!is_free(flat, event->addr, last))
			event->flags |= TRACE_FIXED;
		else
			event->flags |= below(2) ? TRACE_NOREPLACE : 0;
		return true;
	case 4:
	case 5:
		event->kind = TRACE_MUNMAP;
		return true;
	case 6:
	case 7:
		event->kind = TRACE_MPROTECT;
		if (!is_full(flat, event->addr, last))
			event->flags = TRACE_PREFIX;
		if (!below(8)) {
			/* The stack, perhaps a part of it that no call has shown yet. */
			event->addr = STACK + below(6) * PAGE - 3 * PAGE;
			event->len = PAGE;
			event->flags = below(2) ? TRACE_GROWSDOWN : 0;
		}
		return true;
	case 8:
	case 9:
		return random_remap(flat, event);
	case 10:
		event->kind = TRACE_BRK;
		event->addr = flat->brk ? HEAP + below(20 * PAGE) : 0;
		event->result = flat->brk ? event->addr : HEAP + 123;
		return true;
	default:
		event->kind = TRACE_ADVISE;
		event->flags = below(2) ? TRACE_NOFORK : 0;
		return true;
	}
}

/* Two ranges that touch and have the same letters are one. */
static struct flat_range next_flat(const struct flat *flat, size_t *at)
{
	struct flat_range range = flat->ranges[(*at)++];

	while (*at < flat->count && flat->ranges[*at].first == range.last + 1 &&
	       flat->ranges[*at].prot == range.prot)
		range.last = flat->ranges[(*at)++].last;
	return range;
}

static void compare(uint32_t id)
{
	const struct address_space *space = spaces.table[id];
	const struct flat *flat = &flats[id];
	struct sheaf_tree_cursor cursor;
	const struct vma *vma;
	size_t at = 0;

	ck_assert_ptr_null(sheaf_tree_check(space->tree));
	sheaf_tree_cursor_init(&cursor, space->tree);
	vma = sheaf_tree_find_rcu(&cursor, 0);
	while (at < flat->count) {
		struct flat_range range = next_flat(flat, &at);
		uint64_t last = range.first - 1;

		while (vma && last != range.last && vma->first == last + 1) {
			ck_assert_uint_eq(cursor.first, vma->first);
			ck_assert_uint_eq(cursor.last, vma->last);
			ck_assert_uint_eq(vma->kind.prot, range.prot);
			ck_assert_uint_eq(vma->space, id);
			ck_assert_uint_eq(vma->retired, VMA_LIVE);
			ck_assert_uint_le(vma->born, space->begun);
			last = vma->last;
			vma = sheaf_tree_next_rcu(&cursor);
		}
		ck_assert_uint_eq(last, range.last);
	}
	ck_assert_ptr_null(vma);
}

/* Returns false if the space ran out of memory. */
static bool run(uint32_t id, unsigned calls)
{
	for (unsigned i = 0; i < calls; i++) {
		struct trace_event event;
		uint32_t begun = spaces.table[id]->begun;

		if (!random_event(&flats[id], &event))
			continue;
		if (space_call(&spaces, id, &event)) {
			ck_assert_msg(strstr(trace.error, "out of memory"), "%s", trace.error);
			return false;
		}
		ck_assert_uint_eq(spaces.table[id]->begun, begun + 1);
		ck_assert_uint_eq(spaces.table[id]->finished, begun + 1);
		ck_assert_int_eq(flat_call(&flats[id], &trace, &event), 0);
		compare(id);
	}
	return true;
}

static bool run_all(unsigned calls)
{
	struct trace_map map = first_map();

	if (spaces_init(&spaces, &urcu.gp, &trace, SPACES))
		return false;
	if (space_start(&spaces, 0, &map))
		return false;
	ck_assert_int_eq(flat_start(&flats[0], trace.ranges, map.count), 0);
	compare(0);
	for (uint32_t id = 0; id < SPACES; id++) {
		if (id) {
			if (space_fork(&spaces, id, id - 1))
				return false;
			flat_free(&flats[id]);
			ck_assert_int_eq(flat_fork(&flats[id], &flats[id - 1]), 0);
			compare(id);
		}
		if (!run(id, calls) || (id && !run(id - 1, calls / 2)))
			return false;
		if (id && space_drop(&spaces, id - 1))
			return false;
	}
	return !spaces_settle(&spaces);
}

static void finish(void)
{
	ck_assert_uint_eq(spaces_fini(&spaces), 0);
	for (uint32_t id = 0; id < SPACES; id++)
		flat_free(&flats[id]);
	sheaf_gp_urcu_fini(&urcu);
}

START_TEST(random_calls)
{
	seed = test_seed() + (uint64_t)_i + 1;
	begin();
	ck_assert(run_all(test_rounds(1000)));
	ck_assert_uint_gt(spaces.counts.vmas_retired, 100);
	finish();
}
END_TEST

/* Each allocation of the library fails once, until none is left to fail. */
START_TEST(no_memory)
{
	bool failed = true;

	for (unsigned n = 0; failed && n < 2000; n++) {
		bool all;

		seed = 4711;
		begin();
		test_fail_nth(n, false);
		all = run_all(30);
		failed = test_fail_end();
		ck_assert(all || failed);
		finish();
	}
	ck_assert(!failed);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("space");
	TCase *tcase = tcase_create("space");

	tcase_add_loop_test(tcase, random_calls, 0, 4);
	tcase_add_test(tcase, no_memory);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}

/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a slab backend is a set of objects. The oracle is an array of those that
 * are out, each filled with its own number. Random backends (size, alignment, nodes,
 * spare regions) get random bulk calls: every object is aligned, disjoint from all
 * others, keeps its contents while it is out, and is of the node that was asked for;
 * a call gets all it asked for unless memory was made to fail or SHEAF_NOWAIT was
 * given, which gets exactly what is free. After each call the counters are those of
 * the oracle and sheaf_slab_check() holds; in the end nothing is kept but spare regions.
 */
#include <sheaf/slab.h>

#include "common.h"
#include "slab_registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUT_MAX 3000
#define OUT_BYTES_MAX ((size_t)24 << 20)

struct model {
	struct sheaf_slab *slab;
	struct sheaf_backend backend;
	struct sheaf_slab_attr attr;
	size_t align;
	uint64_t state;
	uint64_t number;
	uint64_t calls;
	size_t most;
	size_t n;
	void *out[OUT_MAX];
	uint64_t numbers[OUT_MAX];
	struct sheaf_gp_manual *gp; /* NULL: not type-stable */
	uint64_t constructed;
};

/* The bytes that tell objects apart: all of a small one, the ends of a large one. */
static void mark(const struct model *m, void *object, uint64_t number)
{
	size_t size = m->attr.object_size;
	size_t end = size < 64 ? size : 64;

	memset(object, (int)(number % 251), end);
	memset((char *)object + size - end, (int)(number % 251), end);
	if (size >= 8)
		memcpy(object, &number, 8);
}

static bool marked(const struct model *m, const void *object, uint64_t number)
{
	const unsigned char *bytes = object;
	size_t size = m->attr.object_size;
	size_t end = size < 64 ? size : 64;

	if (size >= 8 && memcmp(object, &number, 8))
		return false;
	for (size_t i = size >= 8 ? 8 : 0; i < end; i++)
		if (bytes[i] != number % 251)
			return false;
	for (size_t i = size - end; i < size; i++)
		if (i >= 8 && bytes[i] != number % 251)
			return false;
	return true;
}

static int by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (void *const *)a;
	uintptr_t y = (uintptr_t) * (void *const *)b;

	return (x > y) - (x < y);
}

static void check_disjoint(const struct model *m)
{
	static void *sorted[OUT_MAX];

	memcpy(sorted, m->out, m->n * sizeof(sorted[0]));
	qsort(sorted, m->n, sizeof(sorted[0]), by_address);
	for (size_t i = 1; i < m->n; i++)
		ck_assert_uint_ge((uintptr_t)sorted[i] - (uintptr_t)sorted[i - 1],
				  m->attr.object_size);
}

static struct sheaf_slab_stats check_all(struct model *m)
{
	struct sheaf_slab_stats stats;
	uint64_t slabs = 0;

	ck_assert(sheaf_slab_check(m->slab));
	sheaf_slab_stats(m->slab, &stats);
	ck_assert_uint_eq(stats.objects, m->n);
	ck_assert_uint_eq(stats.alloc_calls + stats.free_calls, m->calls);
	ck_assert_uint_ge(stats.regions_peak, stats.regions);
	ck_assert_uint_eq((stats.slabs_used + stats.slabs_empty) * stats.slab_bytes,
			  stats.regions * SHEAF_SLAB_REGION);
	ck_assert_uint_ge(stats.slabs_used * stats.slab_objects, stats.objects);
	for (unsigned i = 0; i < SHEAF_SLAB_FILLS; i++)
		slabs += stats.fill[i];
	ck_assert_uint_eq(slabs, stats.slabs_used);
	ck_assert_uint_le(stats.bytes_touched, stats.regions * SHEAF_SLAB_REGION);
	ck_assert_uint_ge(stats.bytes_touched, stats.slabs_used * stats.slab_bytes);
	ck_assert(!stats.objects || stats.fragmentation >= 1000);
	ck_assert(!m->attr.ctor || m->constructed >= m->n);
	return stats;
}

static uint64_t free_objects(const struct sheaf_slab_stats *stats)
{
	return (stats->slabs_used + stats->slabs_empty) * stats->slab_objects - stats->objects;
}

static void step_alloc(struct model *m)
{
	struct sheaf_slab_stats before = check_all(m);
	size_t n = 1 + test_below(&m->state, (uint64_t)1 << test_below(&m->state, 10));
	unsigned flags = test_below(&m->state, 4) ? 0 : SHEAF_NOWAIT;
	bool faults = !test_below(&m->state, 10);
	int node = (int)test_below(&m->state, m->attr.nodes + 3) - 1;
	size_t got;

	if (n > m->most - m->n)
		n = m->most - m->n;
	if (faults)
		test_fail_nth((unsigned)test_below(&m->state, 4), test_below(&m->state, 2));
	got = m->backend.ops->alloc_bulk(m->backend.ctx, node, flags, n, m->out + m->n);
	faults = faults && test_fail_end();
	m->calls += n > 0;
	if (flags & SHEAF_NOWAIT)
		ck_assert_uint_eq(got, n < free_objects(&before) ? n : free_objects(&before));
	else if (!faults)
		ck_assert_uint_eq(got, n);
	ck_assert_uint_le(got, n);
	for (size_t i = m->n; i < m->n + got; i++) {
		struct region *region = region_find(m->out[i]);

		ck_assert_uint_eq((uintptr_t)m->out[i] % m->align, 0);
		ck_assert_ptr_nonnull(region);
		if (node >= 0 && !flags && !faults)
			ck_assert_uint_eq(region->node, (unsigned)node % m->attr.nodes);
		m->numbers[i] = ++m->number;
		mark(m, m->out[i], m->number);
	}
	m->n += got;
	/* A new region only for want of a free object that would have done. */
	if ((flags & SHEAF_NOWAIT) || (node < 0 && n <= free_objects(&before)))
		ck_assert_uint_eq(check_all(m).regions, before.regions);
}

static void swap_out(struct model *m, size_t i, size_t j)
{
	void *object = m->out[i];
	uint64_t number = m->numbers[i];

	m->out[i] = m->out[j];
	m->numbers[i] = m->numbers[j];
	m->out[j] = object;
	m->numbers[j] = number;
}

static void step_free(struct model *m)
{
	size_t n = test_below(&m->state, 8) ? test_below(&m->state, 300) : m->n;
	bool scattered = test_below(&m->state, 2);

	if (n > m->n)
		n = m->n;
	for (size_t i = 0; i < n; i++) {
		if (scattered)
			swap_out(m, m->n - 1 - i, test_below(&m->state, m->n - i));
		ck_assert(marked(m, m->out[m->n - 1 - i], m->numbers[m->n - 1 - i]));
	}
	m->n -= n;
	m->backend.ops->free_bulk(m->backend.ctx, n, m->out + m->n);
	m->calls += n > 0;
}

/* Only ever over objects that nobody has. */
static void construct(void *arg, size_t n, void *const *objects)
{
	struct model *m = arg;

	for (size_t i = 0; i < n; i++) {
		ck_assert_uint_eq((uintptr_t)objects[i] % m->align, 0);
		mark(m, objects[i], 0);
	}
	m->constructed += n;
}

static void make(struct model *m)
{
	static const unsigned nodes[] = {1, 1, 2, 4, 8};
	static const uint32_t spare[] = {0, UINT32_MAX, 3};
	static struct sheaf_gp_manual gp;
	size_t size = 1 + test_below(&m->state, (uint64_t)1 << test_below(&m->state, 17));
	size_t align = (size_t)1 << test_below(&m->state, 13);

	m->attr = (struct sheaf_slab_attr){
		.size = sizeof(m->attr),
		.object_size = size,
		.object_align = test_below(&m->state, 2) ? align : 0,
		.nodes = nodes[test_below(&m->state, 5)],
		.spare_regions = spare[test_below(&m->state, 3)],
		.no_huge_pages = test_below(&m->state, 2),
		.hardened = !test_below(&m->state, 3),
		.seed = m->state,
		.ctor = test_below(&m->state, 3) ? NULL : construct,
		.ctor_arg = m,
		.gp = test_below(&m->state, 3) ? NULL : &gp.gp,
	};
	sheaf_gp_manual_init(&gp, m->state);
	m->gp = m->attr.gp ? &gp : NULL;
	m->constructed = 0;
	m->align = m->attr.object_align ? m->attr.object_align : size < 16 ? 8 : 16;
	if (m->align < 8)
		m->align = 8;
	m->most = OUT_BYTES_MAX / (size + m->align);
	if (m->most > OUT_MAX)
		m->most = OUT_MAX;
	m->n = 0;
	m->calls = 0;
	ck_assert_int_eq(sheaf_slab_create(&m->slab, &m->attr), 0);
	m->backend = sheaf_slab_backend(m->slab);
}

static void end(struct model *m)
{
	uint64_t spare = m->attr.spare_regions ? m->attr.spare_regions : 1;
	struct sheaf_slab_stats stats;

	m->backend.ops->free_bulk(m->backend.ctx, m->n, m->out);
	m->calls += m->n > 0;
	m->n = 0;
	stats = check_all(m);
	if (!m->gp)
		ck_assert_uint_le(stats.regions,
				  m->attr.nodes * (spare == UINT32_MAX ? 0 : spare + KEEP_MORE));
	ck_assert_uint_eq(stats.slabs_used, 0);
	if (m->gp) {
		/* What waits for an older ticket, then all. */
		sheaf_gp_manual_step(m->gp);
		sheaf_slab_trim(m->slab);
		stats = check_all(m);
		ck_assert_uint_eq(sheaf_slab_trim(m->slab), 0);
		sheaf_gp_manual_step(m->gp);
	}
	ck_assert_uint_eq(sheaf_slab_trim(m->slab), stats.regions * SHEAF_SLAB_REGION);
	ck_assert_uint_eq(check_all(m).regions, 0);
	ck_assert_int_eq(sheaf_slab_destroy(m->slab), 0);
}

START_TEST(random_backends)
{
	static struct model m;

	m.state = test_seed();
	for (unsigned round = test_rounds(60); round; round--) {
		make(&m);
		for (unsigned step = 0; step < 100; step++) {
			uint64_t dice = test_below(&m.state, 20);

			if (dice < 10)
				step_alloc(&m);
			else if (dice < 19)
				step_free(&m);
			else
				sheaf_slab_trim(m.slab);
			if (m.gp && !test_below(&m.state, 4))
				sheaf_gp_manual_step(m.gp);
			check_all(&m);
			if (step % 8 == 0)
				check_disjoint(&m);
		}
		for (size_t i = 0; i < m.n; i++)
			ck_assert(marked(&m, m.out[i], m.numbers[i]));
		end(&m);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slab-model");
	TCase *tc = tcase_create("model");

	tcase_add_test(tc, random_backends);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}

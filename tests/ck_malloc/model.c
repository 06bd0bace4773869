/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of memory for Concurrency Kit's containers, with any calls in any order: a block keeps
 * its contents while it is in use, and then as a shadow, which readers may still be in: one
 * that was freed deferred until the next step of the source, one that a deferred realloc has
 * moved until the next step after the next call. At the end all is given back.
 */
#include <sheaf/ck_malloc.h>

#include "common.h"
#include "pattern.h"

#include <errno.h>

#define BLOCKS 24
#define SHADOWS 4096

static struct sheaf_gp_manual manual;
static struct sheaf_ck_memory memory;
SHEAF_CK_MALLOC(allocator, &memory);

struct block {
	unsigned char *at;
	size_t bytes;
	unsigned mark;
};

/* Noted until the next call, then retired until the next step. */
struct shadow {
	struct block block;
	bool noted;
};

static struct block blocks[BLOCKS];
static struct shadow shadows[SHADOWS];
static unsigned n_shadows;
static unsigned next_mark;

static size_t random_size(uint64_t *state)
{
	return (size_t)test_below(state, ((uint64_t)1 << test_below(state, 18)) + 1);
}

static void make_shadow(struct block block, bool noted)
{
	if (!block.at)
		return;
	ck_assert_uint_lt(n_shadows, SHADOWS);
	shadows[n_shadows++] = (struct shadow){block, noted};
}

static void check_block(const struct block *block)
{
	ck_assert(!block->at || filled(block->at, block->bytes, block->mark));
}

static void call_made(void)
{
	for (unsigned i = 0; i < n_shadows; i++)
		shadows[i].noted = false;
}

static void step(void)
{
	unsigned left = 0;

	for (unsigned i = 0; i < n_shadows; i++) {
		check_block(&shadows[i].block);
		if (shadows[i].noted)
			shadows[left++] = shadows[i];
	}
	n_shadows = left;
	sheaf_gp_manual_step(&manual);
}

static void model_free(struct block *block, bool deferred)
{
	check_block(block);
	call_made();
	allocator.free(block->at, block->bytes, deferred);
	if (deferred)
		make_shadow(*block, false);
	block->at = NULL;
}

static void model_realloc(struct block *block, size_t bytes, bool deferred)
{
	struct block old = *block;

	call_made();
	block->at = allocator.realloc(old.at, old.at ? old.bytes : 0, bytes, deferred);
	ck_assert_ptr_nonnull(block->at);
	if (old.at) {
		size_t kept = bytes < old.bytes ? bytes : old.bytes;

		ck_assert(filled(block->at, kept, old.mark));
		if (block->at != old.at && deferred)
			make_shadow(old, true);
	}
	block->bytes = bytes;
	block->mark = next_mark++;
	fill(block->at, bytes, block->mark);
}

START_TEST(any_order_of_calls)
{
	uint64_t state = test_seed();
	size_t live;

	sheaf_gp_manual_init(&manual, UINT64_MAX - 2);
	ck_assert_int_eq(sheaf_ck_memory_init(&memory, &manual.gp), 0);
	for (unsigned round = test_rounds(20000); round; round--) {
		struct block *block = &blocks[test_below(&state, BLOCKS)];

		switch (test_below(&state, 8)) {
		case 0:
			step();
			break;
		case 1:
			if (!test_below(&state, 20)) {
				call_made();
				sheaf_ck_memory_shrink(&memory);
			}
			break;
		case 2:
		case 3:
			model_free(block, test_below(&state, 2));
			break;
		default:
			model_realloc(block, random_size(&state), test_below(&state, 2));
		}
		if (n_shadows > SHADOWS / 2)
			step();
	}
	model_realloc(&blocks[0], 100, false);
	for (unsigned i = 0; i < BLOCKS; i++)
		model_free(&blocks[i], i == 0 || test_below(&state, 2));
	/* What readers may be in is there still, and one step is enough for all. */
	ck_assert_int_eq(sheaf_ck_memory_fini(&memory, &live), -EDEADLK);
	call_made();
	step();
	ck_assert_int_eq(sheaf_ck_memory_fini(&memory, &live), 0);
	ck_assert_uint_eq(live, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ck_malloc");
	TCase *tc = tcase_create("model");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, any_order_of_calls);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}

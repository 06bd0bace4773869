/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the sheaf: every operation, in any order, on sheaves of mixed capacity
 * (0 included), does what a plain stack does: same results, same contents, nothing
 * lost or doubled when many are moved into less room; the head is 32 bytes, an
 * array of sheaf_bytes() holds all of it and not a byte behind it is written; and
 * sheaf_check() sees each kind of damage.
 */
#include <sheaf/sheaf.h>

#include "common.h"

#include <stdlib.h>
#include <string.h>

#define SHEAVES 6
#define MOST 16
#define GUARD 0xa5

/* The oracle: a stack of numbers. */
struct model {
	uint32_t size;
	uint32_t capacity;
	uintptr_t objects[MOST];
};

static const uint32_t capacities[SHEAVES] = {0, 1, 2, 3, 7, MOST};

static struct sheaf *sheaves[SHEAVES];
static struct model models[SHEAVES];
static uintptr_t last_object;

static void *new_object(void)
{
	return (void *)++last_object;
}

static void setup(void)
{
	last_object = 0;
	for (unsigned i = 0; i < SHEAVES; i++) {
		size_t bytes = sheaf_bytes(capacities[i]);
		unsigned char *mem = malloc(bytes + 8);

		memset(mem, GUARD, bytes + 8);
		sheaves[i] = sheaf_init(mem, capacities[i]);
		ck_assert_ptr_eq(sheaves[i], mem);
		models[i] = (struct model){.capacity = capacities[i]};
	}
}

static void teardown(void)
{
	for (unsigned i = 0; i < SHEAVES; i++)
		free(sheaves[i]);
}

/* One assertion for all, because this runs a million times. */
static void compare(const struct sheaf *sheaf, const struct model *model)
{
	const unsigned char *behind = (const unsigned char *)sheaf + sheaf_bytes(model->capacity);
	const void *top = model->size ? (void *)model->objects[model->size - 1] : NULL;
	bool same = sheaf_check(sheaf) && sheaf->capacity == model->capacity;

	same = same && sheaf_size(sheaf) == model->size && sheaf_peek(sheaf) == top;
	same = same && sheaf_room(sheaf) == model->capacity - model->size;
	same = same && sheaf_empty(sheaf) == (model->size == 0);
	same = same && sheaf_full(sheaf) == (model->size == model->capacity);
	for (uint32_t i = 0; same && i < model->size; i++)
		same = sheaf->objects[i] == (void *)model->objects[i];
	for (unsigned i = 0; i < 8; i++)
		same = same && behind[i] == GUARD;
	ck_assert_msg(same, "not as the model: size %u of %u, should be %u", sheaf_size(sheaf),
		      sheaf->capacity, model->size);
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static void step_push(unsigned i)
{
	struct model *m = &models[i];
	void *object = new_object();
	bool fits = m->size < m->capacity;

	ck_assert_int_eq(sheaf_push(sheaves[i], object), fits);
	if (fits)
		m->objects[m->size++] = (uintptr_t)object;
}

static void step_pop(unsigned i)
{
	struct model *m = &models[i];
	void *want = m->size ? (void *)m->objects[--m->size] : NULL;

	ck_assert_ptr_eq(sheaf_pop(sheaves[i]), want);
}

static void step_push_many(unsigned i, uint32_t n)
{
	struct model *m = &models[i];
	uint32_t put = least(n, m->capacity - m->size);
	void *objects[2 * MOST];

	for (uint32_t k = 0; k < n; k++)
		objects[k] = new_object();
	ck_assert_uint_eq(sheaf_push_many(sheaves[i], n, objects), put);
	for (uint32_t k = 0; k < put; k++)
		m->objects[m->size++] = (uintptr_t)objects[k];
}

static void step_pop_many(unsigned i, uint32_t n)
{
	struct model *m = &models[i];
	uint32_t got = least(n, m->size);
	void *objects[2 * MOST + 1] = {NULL};

	ck_assert_uint_eq(sheaf_pop_many(sheaves[i], n, objects), got);
	m->size -= got;
	ck_assert_mem_eq(objects, &m->objects[m->size], got * sizeof(void *));
	ck_assert_ptr_null(objects[got]);
}

/* What moves are the newest of src; which of them, and in which order they then lie,
 * is what pushing them in their old order gives. */
static void step_move(unsigned to, unsigned from, uint32_t n)
{
	struct model *dst = &models[to], *src = &models[from];
	uint32_t moved = least(least(n, src->size), dst->capacity - dst->size);

	ck_assert_uint_eq(sheaf_move(sheaves[to], sheaves[from], n), moved);
	src->size -= moved;
	memcpy(&dst->objects[dst->size], &src->objects[src->size], moved * sizeof(uintptr_t));
	dst->size += moved;
}

START_TEST(every_operation_as_a_stack)
{
	uint64_t state = test_seed();

	for (unsigned round = test_rounds(200000); round; round--) {
		unsigned i = (unsigned)test_below(&state, SHEAVES);
		unsigned j = (i + 1 + (unsigned)test_below(&state, SHEAVES - 1)) % SHEAVES;
		uint32_t n = (uint32_t)test_below(&state, 2 * MOST);

		switch (test_below(&state, 5)) {
		case 0:
			step_push(i);
			break;
		case 1:
			step_pop(i);
			break;
		case 2:
			step_push_many(i, n);
			break;
		case 3:
			step_pop_many(i, n);
			break;
		default:
			step_move(i, j, n);
			compare(sheaves[j], &models[j]);
		}
		compare(sheaves[i], &models[i]);
	}
}
END_TEST

/* All of: size of src, room of dst, and n. */
START_TEST(move_into_any_room)
{
	struct sheaf *src = sheaves[5], *dst = sheaves[4];
	struct model *from = &models[5], *to = &models[4];

	for (uint32_t size = 0; size <= 9; size++)
		for (uint32_t room = 0; room <= to->capacity; room++)
			for (uint32_t n = 0; n <= 10; n++) {
				src->size = from->size = 0;
				dst->size = to->size = 0;
				step_push_many(5, size);
				step_push_many(4, to->capacity - room);
				step_move(4, 5, n);
				compare(src, from);
				compare(dst, to);
			}
}
END_TEST

START_TEST(many_of_none_need_no_array)
{
	void *objects[5] = {NULL};

	for (unsigned i = 0; i < SHEAVES; i++) {
		ck_assert_uint_eq(sheaf_push_many(sheaves[i], 0, NULL), 0);
		ck_assert_uint_eq(sheaf_pop_many(sheaves[i], 0, NULL), 0);
		ck_assert_uint_eq(sheaf_pop_many(sheaves[i], 5, objects), 0);
		compare(sheaves[i], &models[i]);
	}
	ck_assert_uint_eq(sheaf_push_many(sheaves[0], 5, objects), 0);
}
END_TEST

START_TEST(layout_and_bytes)
{
	ck_assert_uint_eq(offsetof(struct sheaf, objects), 32);
	ck_assert_uint_eq(sheaf_bytes(0), 32);
	ck_assert_uint_eq(sheaf_bytes(28), 256);
	ck_assert_uint_eq(sheaf_bytes(60), 512);
	ck_assert_uint_eq(sheaf_bytes(124), 1024);
	ck_assert_uint_eq(sheaf_bytes(SHEAF_CAPACITY_MAX), 32 + ((size_t)8 << 28));
	for (unsigned i = 0; i < SHEAVES; i++) {
		ck_assert_ptr_null(sheaves[i]->link);
		ck_assert_uint_eq(sheaves[i]->ticket, 0);
		ck_assert_uint_eq(sheaves[i]->node, 0);
		ck_assert_uint_eq(sheaves[i]->mark, 0);
		ck_assert_uint_eq(sheaves[i]->stamp, 0);
	}
}
END_TEST

START_TEST(check_sees_damage)
{
	struct sheaf *sheaf = sheaves[3];

	step_push_many(3, 3);
	ck_assert(sheaf_check(sheaf));
	sheaf->objects[1] = NULL;
	ck_assert(!sheaf_check(sheaf));
	sheaf->size = 1;
	ck_assert(sheaf_check(sheaf));
	sheaf->size = 4;
	ck_assert(!sheaf_check(sheaf));
	sheaf->size = 0;
	sheaf->capacity = SHEAF_CAPACITY_MAX + 1;
	ck_assert(!sheaf_check(sheaf));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sheaf");
	TCase *tc = tcase_create("model");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, every_operation_as_a_stack);
	tcase_add_test(tc, move_into_any_room);
	tcase_add_test(tc, many_of_none_need_no_array);
	tcase_add_test(tc, layout_and_bytes);
	tcase_add_test(tc, check_sees_damage);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}

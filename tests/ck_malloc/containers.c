/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of Concurrency Kit's containers what <sheaf/ck_malloc.h> relies on, and that they work
 * with it: they free and realloc with the size they asked for; what they free deferred is
 * no longer what new readers find; and with any calls, also where memory ends, each holds
 * what a plain set holds, and has given all of its memory back in the end.
 */
#include <urcu/urcu-memb.h>

#include <sheaf/ck_malloc.h>

#include "common.h"

#include <ck_array.h>
#include <ck_hs.h>
#include <ck_ht.h>
#include <ck_rhs.h>

#define KEYS 300
#define KNOWN 16
#define ROUNDS 1000

/* Keys are addresses in here, 1 to KEYS: no container takes NULL. */
static char keys[KEYS + 1];

/* Nobody reads; but who retires without any memory may have to wait for a grace period. */
static struct sheaf_gp_urcu urcu;
static struct sheaf_ck_memory memory;
SHEAF_CK_MALLOC(allocator, &memory);

/*
 * Between a container and the memory: who has what, and how it comes back.
 */
static struct known {
	void *block;
	size_t bytes;
} known[KNOWN];
static unsigned n_deferred;
static unsigned n_moved;
/* What readers of the container find. */
static const void *(*active)(void);

static struct known *find_known(const void *block)
{
	for (unsigned i = 0; i < KNOWN; i++)
		if (known[i].block == block)
			return &known[i];
	ck_abort_msg("unknown block, or too many");
	return NULL;
}

static void *known_malloc(size_t bytes)
{
	void *block = allocator.malloc(bytes);

	if (block)
		*find_known(NULL) = (struct known){block, bytes};
	return block;
}

static void *known_realloc(void *block, size_t old_bytes, size_t bytes, bool deferred)
{
	struct known *old = find_known(block);
	void *moved = allocator.realloc(block, old_bytes, bytes, deferred);

	ck_assert_uint_eq(old_bytes, old->bytes);
	if (!moved)
		return NULL;
	/* Readers may be in it only if the container says so. */
	ck_assert(deferred || active() != block);
	n_moved += moved != block;
	*old = (struct known){moved, bytes};
	return moved;
}

static void known_free(void *block, size_t bytes, bool deferred)
{
	struct known *old = find_known(block);

	ck_assert_uint_eq(bytes, old->bytes);
	ck_assert(!deferred || active() != block);
	n_deferred += deferred;
	*old = (struct known){NULL, 0};
	allocator.free(block, bytes, deferred);
}

static struct ck_malloc checked = {known_malloc, known_realloc, known_free};

/*
 * The containers, as sets of keys. put and remove tell if they did; reorganize tries one of
 * several ways to exchange the memory, and does not change the set.
 */
struct container {
	const char *name;
	unsigned mode;
	bool (*init)(unsigned mode);
	bool (*put)(void *key);
	bool (*remove)(void *key);
	bool (*has)(void *key);
	void (*reorganize)(unsigned how);
	const void *(*active)(void);
	void (*destroy)(void);
};

static ck_ht_t ht;

static bool ht_init(unsigned mode)
{
	return ck_ht_init(&ht, CK_HT_MODE_DIRECT | mode, NULL, &checked, 8, 1);
}

static bool ht_has(void *key)
{
	ck_ht_entry_t entry;
	ck_ht_hash_t hash;

	ck_ht_hash_direct(&hash, &ht, (uintptr_t)key);
	ck_ht_entry_key_set_direct(&entry, (uintptr_t)key);
	return ck_ht_get_spmc(&ht, hash, &entry) &&
	       ck_ht_entry_value_direct(&entry) == (uintptr_t)key;
}

/* Not ck_ht_put_spmc(): that of 0.7.1 puts a key twice if one was removed before it. */
static bool ht_put(void *key)
{
	ck_ht_entry_t entry;
	ck_ht_hash_t hash;

	if (ht_has(key))
		return false;
	ck_ht_hash_direct(&hash, &ht, (uintptr_t)key);
	ck_ht_entry_set_direct(&entry, hash, (uintptr_t)key, (uintptr_t)key);
	return ck_ht_set_spmc(&ht, hash, &entry);
}

static bool ht_remove(void *key)
{
	ck_ht_entry_t entry;
	ck_ht_hash_t hash;

	ck_ht_hash_direct(&hash, &ht, (uintptr_t)key);
	ck_ht_entry_key_set_direct(&entry, (uintptr_t)key);
	return ck_ht_remove_spmc(&ht, hash, &entry);
}

static void ht_reorganize(unsigned how)
{
	if (how % 2)
		ck_ht_gc(&ht, 0, how);
	else
		ck_ht_grow_spmc(&ht, 1024);
}

static const void *ht_active(void)
{
	return ht.map;
}

static void ht_destroy(void)
{
	ck_ht_destroy(&ht);
}

static unsigned long hash_key(const void *key, unsigned long seed)
{
	return ((unsigned long)((const char *)key - keys) + seed) * 2654435761u;
}

static bool same_key(const void *a, const void *b)
{
	return a == b;
}

static ck_hs_t hs;

static bool hs_init(unsigned mode)
{
	return ck_hs_init(&hs, CK_HS_MODE_SPMC | CK_HS_MODE_OBJECT | mode, hash_key, same_key,
			  &checked, 8, 1);
}

static bool hs_put(void *key)
{
	return ck_hs_put(&hs, CK_HS_HASH(&hs, hash_key, key), key);
}

static bool hs_remove(void *key)
{
	return ck_hs_remove(&hs, CK_HS_HASH(&hs, hash_key, key), key) != NULL;
}

static bool hs_has(void *key)
{
	return ck_hs_get(&hs, CK_HS_HASH(&hs, hash_key, key), key) == key;
}

static void hs_reorganize(unsigned how)
{
	if (how % 3 == 0)
		ck_hs_gc(&hs, 0, how);
	else if (how % 3 == 1)
		ck_hs_rebuild(&hs);
	else
		ck_hs_grow(&hs, 1024);
}

static const void *hs_active(void)
{
	return hs.map;
}

static void hs_destroy(void)
{
	ck_hs_destroy(&hs);
}

static ck_rhs_t rhs;

static bool rhs_init(unsigned mode)
{
	return ck_rhs_init(&rhs, CK_RHS_MODE_SPMC | CK_RHS_MODE_OBJECT | mode, hash_key, same_key,
			   &checked, 8, 1);
}

static bool rhs_put(void *key)
{
	return ck_rhs_put(&rhs, CK_RHS_HASH(&rhs, hash_key, key), key);
}

static bool rhs_remove(void *key)
{
	return ck_rhs_remove(&rhs, CK_RHS_HASH(&rhs, hash_key, key), key) != NULL;
}

static bool rhs_has(void *key)
{
	return ck_rhs_get(&rhs, CK_RHS_HASH(&rhs, hash_key, key), key) == key;
}

static void rhs_reorganize(unsigned how)
{
	if (how % 2)
		ck_rhs_rebuild(&rhs);
	else
		ck_rhs_grow(&rhs, 1024);
}

static const void *rhs_active(void)
{
	return rhs.map;
}

static void rhs_destroy(void)
{
	ck_rhs_destroy(&rhs);
}

static ck_array_t array;

static bool array_init(unsigned mode)
{
	return ck_array_init(&array, mode, &checked, 4);
}

static bool array_has(void *key)
{
	unsigned n;
	void *const *values = ck_array_buffer(&array, &n);

	while (n)
		if (values[--n] == key)
			return true;
	return false;
}

static bool array_put(void *key)
{
	bool put = ck_array_put_unique(&array, key) == 0;

	if (put)
		ck_array_commit(&array);
	return put;
}

static bool array_remove(void *key)
{
	bool removed = array_has(key) && ck_array_remove(&array, key);

	if (removed)
		ck_array_commit(&array);
	return removed;
}

/* One value leaves and comes back in one transaction, which copies the array. */
static void array_reorganize(unsigned how)
{
	void *key = &keys[1 + how % KEYS];

	if (!array_has(key) || !ck_array_remove(&array, key))
		return;
	/* There is room in the copy. That of 0.7.1 puts it, and returns false. */
	(void)ck_array_put(&array, key);
	ck_array_commit(&array);
}

static const void *array_active(void)
{
	return array.active;
}

static void array_destroy(void)
{
	ck_array_deinit(&array, false);
}

static const struct container containers[] = {
	{"ht", 0, ht_init, ht_put, ht_remove, ht_has, ht_reorganize, ht_active, ht_destroy},
	{"ht for deletes", CK_HT_WORKLOAD_DELETE, ht_init, ht_put, ht_remove, ht_has, ht_reorganize,
	 ht_active, ht_destroy},
	{"hs", 0, hs_init, hs_put, hs_remove, hs_has, hs_reorganize, hs_active, hs_destroy},
	{"hs for deletes", CK_HS_MODE_DELETE, hs_init, hs_put, hs_remove, hs_has, hs_reorganize,
	 hs_active, hs_destroy},
	{"rhs", 0, rhs_init, rhs_put, rhs_remove, rhs_has, rhs_reorganize, rhs_active, rhs_destroy},
	{"array", CK_ARRAY_MODE_SPMC, array_init, array_put, array_remove, array_has,
	 array_reorganize, array_active, array_destroy},
};
#define CONTAINERS (sizeof(containers) / sizeof(containers[0]))

static bool model[KEYS + 1];

/* One call, perhaps without memory: what it tells is what it did. */
static void change(const struct container *c, uint64_t *state, bool faults)
{
	unsigned i = 1 + (unsigned)test_below(state, KEYS);
	unsigned what = (unsigned)test_below(state, 16);
	bool did, failed;

	if (faults && !test_below(state, 4))
		test_fail_nth((unsigned)test_below(state, 3), test_below(state, 2));
	if (what == 0)
		c->reorganize((unsigned)test_below(state, 1000));
	else if (what < 10)
		did = c->put(&keys[i]);
	else
		did = c->remove(&keys[i]);
	failed = test_fail_end();
	if (what == 0)
		return;
	if (what < 10) {
		ck_assert_msg(did == !model[i] || (failed && !did), "%s: put", c->name);
		model[i] |= did;
	} else {
		ck_assert_msg(did == model[i] || (failed && !did), "%s: remove", c->name);
		model[i] &= !did;
	}
}

static void check_all(const struct container *c)
{
	for (unsigned i = 1; i <= KEYS; i++)
		ck_assert_msg(c->has(&keys[i]) == model[i], "%s: key %u", c->name, i);
}

/* A container from its beginning to its end. */
static void live(const struct container *c, uint64_t *state, bool faults)
{
	for (unsigned i = 0; i <= KEYS; i++)
		model[i] = false;
	ck_assert(c->init(c->mode));
	for (unsigned round = 1; round <= ROUNDS; round++) {
		change(c, state, faults);
		if (round % (ROUNDS / 5) == 0)
			check_all(c);
	}
	c->destroy();
}

static void run(const struct container *c, bool faults)
{
	unsigned lives = test_rounds(40);
	uint64_t state = test_seed() + (uint64_t)(c - containers);
	size_t left;

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL), 0);
	ck_assert_int_eq(sheaf_ck_memory_init(&memory, &urcu.gp), 0);
	active = c->active;
	n_deferred = n_moved = 0;
	for (unsigned i = lives; i; i--)
		live(c, &state, faults);
	ck_assert_uint_gt(n_deferred, lives);
	ck_assert(c->init != array_init || n_moved > lives);
	ck_assert_int_eq(sheaf_ck_memory_fini(&memory, &left), 0);
	ck_assert_uint_eq(left, 0);
	sheaf_gp_urcu_fini(&urcu);
}

START_TEST(holds_what_a_set_holds)
{
	run(&containers[_i], false);
}
END_TEST

START_TEST(also_where_memory_ends)
{
	run(&containers[_i], true);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ck_malloc");
	TCase *tc = tcase_create("containers");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, holds_what_a_set_holds, 0, CONTAINERS);
	tcase_add_loop_test(tc, also_where_memory_ends, 0, CONTAINERS);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}

/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a cache with default attributes gives a thread memory of the node it runs on,
 * whoever touches it first, while threads of all nodes allocate at the same time; and that
 * a thread on a node without memory gets memory of others.
 */
#include "machine.h"

#include <sheaf/cache.h>

#include <stdlib.h>
#include <string.h>

/* What a thread takes: a few sheaves at least, and enough regions that huge pages come in. */
#define TAKE_BYTES ((size_t)6 << 20)
#define TAKE_MOST ((size_t)8192)

static const size_t sizes[] = {64, 1000, 4096, 65536};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* A thread of one CPU: its own until it is joined. */
struct user {
	struct sheaf_cache *cache;
	void **objects;
	size_t n;
	size_t got;
	size_t size;
	int cpu;
	bool touches;
};

static void touch(const struct user *user)
{
	for (size_t i = 0; i < user->got; i++)
		memset(user->objects[i], 1, user->size);
}

static void *use(void *arg)
{
	struct user *user = arg;

	if (!machine_pin(user->cpu))
		return NULL;
	while (user->got < user->n) {
		void *object = sheaf_cache_alloc(user->cache, 0);

		if (!object)
			break;
		user->objects[user->got++] = object;
	}
	if (user->touches)
		touch(user);
	return NULL;
}

static struct sheaf_cache *make(size_t size)
{
	const struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = size};
	struct sheaf_cache *cache;

	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	return cache;
}

/* A thread on each CPU that may be used allocates; returns how many there were. */
static unsigned allocate(struct sheaf_cache *cache, size_t size, bool touches, struct user *users)
{
	unsigned threads = 0;

	for (int cpu = 0; cpu < MACHINE_CPUS; cpu++) {
		struct user *user = &users[threads];

		if (machine.node[cpu] < 0)
			continue;
		*user = (struct user){.cache = cache,
				      .size = size,
				      .cpu = cpu,
				      .touches = touches,
				      .n = TAKE_BYTES / size < TAKE_MOST ? TAKE_BYTES / size
									 : TAKE_MOST};
		user->objects = malloc(user->n * sizeof(user->objects[0]));
		ck_assert_ptr_nonnull(user->objects);
		threads++;
	}
	test_threads(threads, use, users, sizeof(users[0]));
	return threads;
}

static void check_place(struct user *user)
{
	unsigned node = (unsigned)machine.node[user->cpu];

	ck_assert_uint_eq(user->got, user->n);
	if (!user->touches) {
		ck_assert(machine_pin_elsewhere(node));
		touch(user);
	}
	if (machine.memory[node])
		ck_assert_uint_eq(machine_strays(user->got, user->objects, user->size, node), 0);
	else
		ck_assert_uint_eq(machine_nowhere(user->got, user->objects, user->size), 0);
}

static void objects_lie_on_the_node(size_t size, bool touches)
{
	struct user *users = calloc(MACHINE_CPUS, sizeof(users[0]));
	struct sheaf_cache *cache = make(size);
	unsigned threads;

	ck_assert_ptr_nonnull(users);
	threads = allocate(cache, size, touches, users);
	for (unsigned i = 0; i < threads; i++)
		check_place(&users[i]);
	for (unsigned i = 0; i < threads; i++) {
		sheaf_cache_free_bulk(cache, users[i].got, users[i].objects);
		free(users[i].objects);
	}
	free(users);
	ck_assert(sheaf_cache_check(cache));
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
}

START_TEST(touched_by_their_thread)
{
	objects_lie_on_the_node(sizes[_i], true);
}
END_TEST

START_TEST(touched_from_another_node)
{
	objects_lie_on_the_node(sizes[_i], false);
}
END_TEST

/* Alone on such a node: nobody else brings memory that it could be given. */
START_TEST(no_memory_of_its_own)
{
	const size_t size = sizes[_i], n = TAKE_BYTES / size;
	struct user user = {.cache = make(size),
			    .size = size,
			    .n = n,
			    .touches = true,
			    .cpu = machine.cpu[machine_cpus_only()]};

	user.objects = malloc(n * sizeof(user.objects[0]));
	ck_assert_ptr_nonnull(user.objects);
	for (unsigned round = 0; round < 3; round++) {
		user.got = 0;
		test_threads(1, use, &user, sizeof(user));
		ck_assert_uint_eq(user.got, n);
		ck_assert_uint_eq(machine_nowhere(n, user.objects, size), 0);
		sheaf_cache_free_bulk(user.cache, n, user.objects);
	}
	free(user.objects);
	ck_assert(sheaf_cache_check(user.cache));
	ck_assert_int_eq(sheaf_cache_destroy(user.cache, NULL), 0);
}
END_TEST

int main(void)
{
	int code = machine_read();
	Suite *suite;
	TCase *tc;

	if (code)
		return code;
	suite = suite_create("numa-cache");
	tc = tcase_create("cache");
	tcase_add_loop_test(tc, touched_by_their_thread, 0, SIZES);
	tcase_add_loop_test(tc, touched_from_another_node, 0, SIZES);
	if (machine_cpus_only() >= 0)
		tcase_add_loop_test(tc, no_memory_of_its_own, 0, SIZES);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}

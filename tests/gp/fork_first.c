/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a child finds nothing held by who was making the first source of the process when
 * it was forked: the handlers are there before (FORK_EARLY). The moment is the one allocation
 * under the lock of shared sources.
 */
#include "common.h"

#include <sheaf/gp.h>
#include <sys/wait.h>
#include <unistd.h>
#include <urcu/urcu-memb.h>

static bool now;
static int status = -1;

static void *make_child(void *arg)
{
	struct sheaf_gp *gp;
	pid_t child = fork();

	if (!child) {
		alarm(60);
		if (sheaf_gp_urcu_get(&gp, &urcu_memb_flavor))
			_exit(2);
		sheaf_gp_urcu_put(gp);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		status = -1;
	return arg;
}

void *__real_memory_zalloc(size_t align, size_t bytes);
void *__wrap_memory_zalloc(size_t align, size_t bytes);

void *__wrap_memory_zalloc(size_t align, size_t bytes)
{
	pthread_t thread;

	if (now) {
		now = false;
		if (pthread_create(&thread, NULL, make_child, NULL) == 0)
			pthread_join(thread, NULL);
	}
	return __real_memory_zalloc(align, bytes);
}

START_TEST(first_source)
{
	struct sheaf_gp *gp;

	now = true;
	ck_assert_int_eq(sheaf_gp_urcu_get(&gp, &urcu_memb_flavor), 0);
	ck_assert(!now);
	ck_assert_int_eq(status, 0);
	sheaf_gp_urcu_put(gp);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fork_first");
	TCase *tcase = tcase_create("fork_first");

	tcase_add_test(tcase, first_source);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}

/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a liburcu flavour (the one this program is built for: flavours'
 * headers do not go together) makes a source that keeps what every source has
 * to keep, also where the numbers of its periods wrap.
 */
#include FLAVOR_HEADER

#include <sheaf/gp.h>

#include "common.h"
#include "conform.h"

static struct sheaf_gp_urcu urcu;

static void quiescent(void)
{
	rcu_quiescent_state();
}

static void reader_begin(void)
{
	rcu_register_thread();
}

static void reader_end(void)
{
	rcu_unregister_thread();
}

static void conform_from(uint64_t first)
{
	const struct conform conform = {
		.gp = &urcu.gp,
		.reader_begin = reader_begin,
		.reader_end = reader_end,
		.quiescent = quiescent,
		.waits = true,
		.wraps = first,
	};
	struct sheaf_gp_driver_stats stats;
	struct conform_result result;

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL), 0);
	urcu.driver.begun = urcu.gp.completed = first;
	result = conform_run(&conform, test_more(400));
	sheaf_gp_urcu_stats(&urcu, &stats);
	sheaf_gp_urcu_fini(&urcu);
	ck_assert_uint_eq(conform_errors(&result), 0);
	ck_assert_uint_eq(result.unaware, 0);
	ck_assert_uint_gt(result.sections, 0);
	ck_assert_uint_gt(stats.periods, 0);
	/* Sources are worth it because one period serves many tickets. */
	ck_assert_uint_le(stats.periods, result.tickets + 1);
}

START_TEST(keeps_what_a_source_has_to)
{
	conform_from(0);
}
END_TEST

START_TEST(keeps_it_over_the_wrap)
{
	conform_from(UINT64_MAX - 19);
	ck_assert_uint_lt(urcu.gp.completed, UINT64_MAX / 2);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create(FLAVOR_NAME);

	tcase_add_test(tc, keeps_what_a_source_has_to);
	tcase_add_test(tc, keeps_it_over_the_wrap);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}

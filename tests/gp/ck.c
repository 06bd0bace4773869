/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that Concurrency Kit's epochs make a source that keeps what every source has to keep,
 * also where the numbers of its periods wrap; that it waits for a record that is active and
 * not for one that is not; and that a wait inside a section is told.
 */
#include <sheaf/gp_ck.h>

#include "base/atomic.h"
#include "common.h"
#include "conform.h"

#include <errno.h>

/* Records stay in the epoch's list for ever. */
#define RECORDS 64

static ck_epoch_t epoch;
static ck_epoch_record_t records[RECORDS];
static uint32_t records_used;
static __thread ck_epoch_record_t *record;
static __thread unsigned depth;

static void reader_begin(void)
{
	record = ck_epoch_recycle(&epoch, NULL);
	if (record)
		return;
	record = &records[fetch_add_acq_rel(&records_used, 1)];
	ck_assert(record < records + RECORDS);
	ck_epoch_register(&epoch, record, NULL);
}

static void reader_end(void)
{
	ck_epoch_unregister(record);
	record = NULL;
}

static void lock(void)
{
	ck_epoch_begin(record, NULL);
	depth++;
}

static void unlock(void)
{
	depth--;
	ck_epoch_end(record, NULL);
}

static bool ongoing(void)
{
	return depth;
}

static const struct sheaf_gp_ck_readers readers = {lock, unlock, ongoing};
static struct sheaf_gp_ck ck;

static void begin(void)
{
	ck_epoch_init(&epoch);
	records_used = 0;
	ck_assert_int_eq(sheaf_gp_ck_init(&ck, &epoch, &readers, NULL), 0);
}

static void conform_from(uint64_t first)
{
	const struct conform conform = {
		.gp = &ck.gp,
		.reader_begin = reader_begin,
		.reader_end = reader_end,
		.waits = true,
	};
	struct conform_result result;

	begin();
	ck.driver.begun = ck.gp.completed = first;
	result = conform_run(&conform, test_more(400));
	sheaf_gp_driver_fini(&ck.driver);
	ck_assert_uint_eq(conform_errors(&result), 0);
	ck_assert_uint_eq(result.unaware, 0);
	ck_assert_uint_gt(result.sections, 0);
}

START_TEST(keeps_what_a_source_has_to)
{
	conform_from(_i ? UINT64_MAX - 19 : 0);
}
END_TEST

START_TEST(waits_for_what_is_active)
{
	uint64_t ticket;

	begin();
	reader_begin();
	ck_assert_int_eq(sheaf_gp_wait(&ck.gp, sheaf_gp_ticket(&ck.gp)), 0);
	sheaf_gp_read_lock(&ck.gp);
	ck_assert(sheaf_gp_read_ongoing(&ck.gp));
	ticket = sheaf_gp_ticket(&ck.gp);
	test_sleep_ms(20);
	ck_assert(!sheaf_gp_elapsed(&ck.gp, ticket));
	sheaf_gp_read_unlock(&ck.gp);
	ck_assert_int_eq(sheaf_gp_wait(&ck.gp, ticket), 0);
	reader_end();
	sheaf_gp_driver_fini(&ck.driver);
}
END_TEST

static void wait_inside(void *arg)
{
	(void)arg;
	begin();
	reader_begin();
	sheaf_gp_read_lock(&ck.gp);
	sheaf_gp_wait(&ck.gp, sheaf_gp_ticket(&ck.gp));
}

START_TEST(wait_inside_a_section_is_told)
{
	struct sheaf_gp_driver_attr attr = {0};

	ck_assert(test_dies(wait_inside, NULL, "inside a read section"));
	ck_assert_int_eq(sheaf_gp_ck_init(&ck, &epoch, &readers, &attr), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("ck");

	tcase_add_loop_test(tc, keeps_what_a_source_has_to, 0, 2);
	tcase_add_test(tc, waits_for_what_is_active);
	tcase_add_test(tc, wait_inside_a_section_is_told);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}

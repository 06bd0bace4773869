/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that what the library believes of nodes and CPUs is what the system says: how many
 * numbers there are, which node each CPU is of, and that caches and slabs are made for as many.
 */
#include "machine.h"

#include "base/topology.h"

#include <sheaf/cache.h>

START_TEST(numbers_are_the_systems)
{
	ck_assert_uint_eq(topology_nodes(), machine.nodes);
	ck_assert_uint_eq(topology_cpus(), machine.cpus);
}
END_TEST

START_TEST(each_cpu_is_of_its_node)
{
	unsigned tried = 0;

	for (unsigned cpu = 0; cpu < MACHINE_CPUS; cpu++) {
		if (machine.node[cpu] < 0)
			continue;
		ck_assert(machine_pin((int)cpu));
		ck_assert_int_eq(topology_current_node(NULL), machine.node[cpu]);
		tried++;
	}
	ck_assert_uint_gt(tried, 0);
}
END_TEST

START_TEST(a_cache_has_a_barn_per_node)
{
	const struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 64};
	struct sheaf_cache_stats stats;
	struct sheaf_cache *cache;

	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	sheaf_cache_stats(cache, &stats, sizeof(stats));
	ck_assert_uint_eq(stats.nodes, machine.nodes);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
}
END_TEST

int main(void)
{
	int code = machine_read();
	Suite *suite;
	TCase *tc;

	if (code)
		return code;
	suite = suite_create("numa-topology");
	tc = tcase_create("topology");
	tcase_add_test(tc, numbers_are_the_systems);
	tcase_add_test(tc, each_cpu_is_of_its_node);
	tcase_add_test(tc, a_cache_has_a_barn_per_node);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}

/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A table per way to run a scenario, as soon as it is done. */
#include "bench.h"

#include <string.h>

static void table_trips(const struct result *result)
{
	static const char *const names[] = {"barn_alloc", "barn_free", "backend_alloc",
					    "backend_free", "home"};
	static const char *const levels[] = {"held_slots", "held_barns", "in_flight"};
	const double *slab, *all;
	char name[40];
	size_t i;

	printf("    trips per operation:");
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const double *value;

		snprintf(name, sizeof(name), "trips.%s", names[i]);
		value = result_metric(result, name);
		printf(" %s %.5f", names[i], value ? *value : 0.0);
	}
	printf("\n    objects held:");
	for (i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		const double *value;

		snprintf(name, sizeof(name), "trips.%s", levels[i]);
		value = result_metric(result, name);
		printf(" %s %.0f", levels[i], value ? *value : 0.0);
	}
	slab = result_metric(result, "trips.slab_fragmentation");
	all = result_metric(result, "trips.fragmentation");
	if (slab && all && *slab > 0 && *all > 0)
		printf("\n    bytes in slabs: %.3f times those out of the backend, %.3f times "
		       "those the program has",
		       *slab / 1000, *all / 1000);
	printf("\n");
}

void table_config(const struct config *config, const struct results *results)
{
	const struct result *result;
	char params[160];

	config_print(config, params, sizeof(params));
	printf("\n%s: %s\n  %s; ns per %s\n", config->scenario->name, params,
	       config->scenario->what, config->scenario->op);
	printf("  %-21s %9s %9s %9s %7s %9s %9s\n", "", "median", "min", "max", "ratio", "cpu ns",
	       "peak MiB");
	for (result = results->first; result; result = result->next) {
		const double *bytes = result_metric(result, "bytes_entry");
		const double *side = result_metric(result, "side_ns_op");
		const double *both = result_metric(result, "both_ns_op");
		const double *alone = result_metric(result, "alone_ns_op");
		const double *kept = result_metric(result, "kept_percent");
		const double *nodes = result_metric(result, "nodes_write");
		const double *objects = result_metric(result, "objects_write");
		const double *tail = result_metric(result, "tail_us");
		const double *longest = result_metric(result, "longest_us");
		const double *failed = result_metric(result, "failed");

		if (result->config != config)
			continue;
		printf("  %-21s %9.2f %9.2f %9.2f ", result->competitor->name, result->ns_op.median,
		       result->ns_op.min, result->ns_op.max);
		if (result->ratio > 0)
			printf("%7.2f ", result->ratio);
		else
			printf("%7s ", "-");
		printf("%9.2f %9.1f", result->cpu_op.median, (double)result->peak_kib / 1024.0);
		if (bytes)
			printf("  %.1f bytes/entry", *bytes);
		if (side)
			printf("  beside: %.1f ns", *side);
		if (alone && kept)
			printf("  alone: %.1f ns, keeps %.0f %%", *alone, *kept);
		if (both)
			printf("  both: %.1f ns", *both);
		if (nodes && objects)
			printf("  %.3f nodes/write, %.3f objects", *nodes, *objects);
		if (tail && longest && failed)
			printf("  99.9 %% within %.1f us, longest %.0f us, %.0f failed",
			       *tail, *longest, *failed);
		printf("\n");
	}
	for (result = results->first; result; result = result->next)
		if (result->config == config && result_metric(result, "trips.capacity") &&
		    strcmp(result->competitor->name, "libsheaf") == 0)
			table_trips(result);
	fflush(stdout);
}

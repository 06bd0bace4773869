/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Every figure as JSON, one result per line. */
#include "bench.h"

#include <errno.h>
#include <string.h>

void json_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			fprintf(out, "\\u%04x", (unsigned char)*text);
		else
			fputc(*text, out);
	}
	fputc('"', out);
}

static void member(FILE *out, const char *name, const char *text)
{
	fprintf(out, "\"%s\": ", name);
	json_string(out, text);
}

static void machine_json(FILE *out, const struct machine *machine)
{
	fprintf(out, "{");
	member(out, "cpu", machine->cpu);
	fprintf(out, ", \"cores\": %u, \"nodes\": %u, \"memory_gib\": %.1f, ", machine->cores,
		machine->nodes, machine->memory_gib);
	member(out, "kernel", machine->kernel);
	fprintf(out, ", ");
	member(out, "libc", machine->libc);
	fprintf(out, ", ");
	member(out, "compiler", machine->compiler);
	fprintf(out, ", ");
	member(out, "build", machine->build);
	fprintf(out, ", ");
	member(out, "peers", machine->peers);
	fprintf(out, "}");
}

static void spread_json(FILE *out, const char *name, const struct spread *spread)
{
	fprintf(out, ", \"%s\": {\"median\": %.3f, \"min\": %.3f, \"max\": %.3f}", name,
		spread->median, spread->min, spread->max);
}

/* Metrics with a prefix go into an object of their own. */
static void metrics_json(FILE *out, const struct result *result)
{
	const char *comma = "";
	unsigned i;

	for (i = 0; i < result->n_metrics; i++)
		if (strncmp(result->metrics[i].name, "trips.", 6) != 0)
			fprintf(out, ", \"%s\": %.6g", result->metrics[i].name,
				result->metrics[i].value);
	if (!result_metric(result, "trips.capacity"))
		return;
	fprintf(out, ", \"trips\": {");
	for (i = 0; i < result->n_metrics; i++) {
		if (strncmp(result->metrics[i].name, "trips.", 6) != 0)
			continue;
		fprintf(out, "%s\"%s\": %.6g", comma, result->metrics[i].name + 6,
			result->metrics[i].value);
		comma = ", ";
	}
	fprintf(out, "}");
}

static void result_json(FILE *out, const struct result *result)
{
	const double *cpu_slots = result_metric(result, "cpu_slots");
	unsigned i;

	fprintf(out, "{");
	member(out, "scenario", result->config->scenario->name);
	fprintf(out, ", \"params\": {");
	config_json(result->config, out);
	if (cpu_slots)
		fprintf(out, ", \"slots\": \"%s\"", *cpu_slots > 0 ? "cpu" : "thread");
	fprintf(out, "}, ");
	member(out, "competitor", result->competitor->name);
	spread_json(out, "ns_op", &result->ns_op);
	spread_json(out, "cpu_ns_op", &result->cpu_op);
	fprintf(out, ", \"rounds\": [");
	for (i = 0; i < result->rounds; i++)
		fprintf(out, "%s%.3f", i ? ", " : "", result->ns[i]);
	fprintf(out, "]");
	if (result->ratio > 0)
		fprintf(out, ", \"ratio\": %.3f", result->ratio);
	fprintf(out, ", \"base_kib\": %llu, \"peak_kib\": %llu",
		(unsigned long long)result->base_kib, (unsigned long long)result->peak_kib);
	metrics_json(out, result);
	if (result->n_samples) {
		fprintf(out, ", \"memory\": [");
		for (i = 0; i < result->n_samples; i++)
			fprintf(out, "%s[%.0f, %.1f]", i ? ", " : "", (double)result->sample_ms[i],
				(double)result->sample_mib[i]);
		fprintf(out, "]");
	}
	fprintf(out, "}");
}

int json_write(const char *file, const struct machine *machine, const struct results *results)
{
	FILE *out = strcmp(file, "-") == 0 ? stdout : fopen(file, "we");
	const struct result *result;
	int err;

	if (!out)
		return -errno;
	fprintf(out, "{\"machine\": ");
	machine_json(out, machine);
	fprintf(out, ",\n\"results\": [");
	for (result = results->first; result; result = result->next) {
		fprintf(out, "%s\n", result == results->first ? "" : ",");
		result_json(out, result);
	}
	fprintf(out, "\n]}\n");
	errno = 0;
	err = fflush(out) || ferror(out) ? -(errno ? errno : EIO) : 0;
	if (out != stdout && fclose(out) && !err)
		err = -errno;
	return err;
}

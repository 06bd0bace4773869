/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The page: one file, no scripts, nothing fetched from elsewhere. */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char style[] =
	":root{color-scheme:light dark;--bg:#fff;--fg:#1c2126;--soft:#5b6670;--rule:#dde2e6;"
	"--card:#f6f8f9;--own:#0b6bcb;--limit:#aab4bd;--peer:#c58b2a;--spread:#1c2126;"
	"--c0:#0b6bcb;--c1:#c2570c;--c2:#0f8a5f;--c3:#c4314b;--c4:#7a4bd0;--c5:#0e8ba0;--c6:#"
	"b0398f;"
	"--c7:#6b8e13;--c8:#7d7469;--c9:#3f4fa8}\n"
	"@media(prefers-color-scheme:dark){:root{--bg:#14181c;--fg:#e3e8ec;--soft:#9aa6b0;"
	"--rule:#323a42;--card:#1b2126;--own:#5aa9f5;--limit:#5c6770;--peer:#d9a94f;--spread:#"
	"f4f6f8;"
	"--c0:#5aa9f5;--c1:#f0934e;--c2:#4cc79a;--c3:#f27a8f;--c4:#b497f2;--c5:#4fc4d8;--c6:#"
	"e88acb;"
	"--c7:#b5d05a;--c8:#b3a99c;--c9:#8f9df0}}\n"
	"*{box-sizing:border-box}body{margin:0 "
	"auto;max-width:76rem;padding:1rem;background:var(--bg);"
	"color:var(--fg);font:16px/1.5 system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
	"h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}h2{font-size:1.25rem;margin:2.2rem 0 "
	".2rem;"
	"padding-top:.6rem;border-top:2px solid var(--rule)}p{margin:.3rem 0 "
	".8rem;max-width:46rem}\n"
	".soft,figcaption em{color:var(--soft);font-style:normal}.soft{font-size:.9rem}"
	"nav a{display:inline-block;padding:.15rem .6rem;margin:.15rem .2rem .15rem "
	"0;color:inherit;"
	"text-decoration:none;border:1px solid var(--rule);border-radius:1rem;font-size:.9rem}\n"
	".plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(22rem,100%),1fr));"
	"gap:1rem;"
	"margin:.8rem 0}figure{margin:0;padding:.7rem .8rem;background:var(--card);"
	"border:1px solid var(--rule);border-radius:.5rem;min-width:0;break-inside:avoid}"
	"figcaption{font-size:.92rem;font-weight:600;margin-bottom:.3rem}figcaption "
	"em{font-weight:400}"
	"svg{display:block;width:100%;height:auto}\n"
	"svg text{font:12.5px system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--fg);"
	"font-variant-numeric:tabular-nums}svg .tick,svg .note{font-size:11px;fill:var(--soft)}"
	"svg text.own{font-weight:700}svg text.limit,svg text.peer,svg text.own{fill:var(--fg)}"
	".grid{stroke:var(--rule);stroke-width:1}.stem{stroke:var(--rule);stroke-width:3}"
	".spread{stroke:var(--spread);stroke-width:1.5;opacity:.75}"
	".own{fill:var(--own)}.limit{fill:var(--limit)}.peer{fill:var(--peer)}\n"
	".line{fill:none;stroke-width:1.8;stroke-linejoin:round}.c0{stroke-width:2.8}"
	".c0{stroke:var(--c0)}.c1{stroke:var(--c1);stroke-dasharray:6 2}.c2{stroke:var(--c2)}"
	".c3{stroke:var(--c3);stroke-dasharray:2 2}.c4{stroke:var(--c4)}"
	".c5{stroke:var(--c5);stroke-dasharray:8 3 2 3}.c6{stroke:var(--c6)}"
	".c7{stroke:var(--c7);stroke-dasharray:4 3}.c8{stroke:var(--c8)}"
	".c9{stroke:var(--c9);stroke-dasharray:10 3}.dot{fill:var(--card);stroke-dasharray:none}\n"
	".legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem .9rem;margin:.3rem 0 "
	"0;padding:0;"
	"font-size:.82rem}.legend li{display:flex;align-items:center;gap:.35rem}"
	".legend svg{width:26px;height:8px;flex:none}\n"
	".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;"
	"font-variant-numeric:tabular-nums;margin:.3rem 0 1rem}th,td{padding:.18rem .6rem;"
	"text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}"
	"th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left}"
	"tr.first td{border-top:2px solid var(--rule)}tr.mine td{font-weight:700}"
	"details{margin:.5rem 0}summary{cursor:pointer;color:var(--soft);font-size:.9rem}\n"
	"@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--rule:#bbb;--card:#fff;--own:#0b6bcb;"
	"--limit:#aaa;--peer:#c58b2a;--spread:#000}body{max-width:none;padding:0;font-size:10pt}"
	"nav{display:none}.plots{grid-template-columns:1fr 1fr;gap:.5rem}h2{break-after:avoid}"
	"details::details-content{content-visibility:visible;height:auto}summary{display:none}"
	"tr,figure{break-inside:avoid}table{font-size:8pt}"
	"*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n";

static const char *kind_of(const struct result *result)
{
	if (strcmp(result->competitor->name, "libsheaf") == 0)
		return "own";
	return strcmp(result->competitor->name, "limit") == 0 ? "limit" : "peer";
}

/* The results of one way to run, from its first; *n is how many. */
static const struct result *config_next(const struct result *first, unsigned *n)
{
	const struct result *result = first;

	for (*n = 0; result && result->config == first->config; result = result->next)
		++*n;
	return result;
}

static double time_of(const struct result *result)
{
	return result->ns_op.median;
}

static double bytes_of(const struct result *result)
{
	const double *bytes = result_metric(result, "bytes_entry");

	return bytes ? *bytes : 0;
}

static double peak_of(const struct result *result)
{
	return (double)result->peak_kib / 1024;
}

/* The same wherever it competes; libsheaf has the first. */
static unsigned colour_of(const struct result *result)
{
	const struct competitor *mine = result->competitor, *other;
	enum scenario_class class = result->config->scenario->class;
	unsigned colour = 0;
	size_t i;

	for (i = 0; (other = competitor_nth(i)) && other != mine; i++)
		colour += !other->only && (class == CLASS_OBJECT   ? other->objects
					   : class == CLASS_RETIRE ? other->retires
					   : class == CLASS_POOL   ? other->pools
								   : other->trees);
	return colour % 10;
}

/* Bars of one figure of each competitor. */
static void bars_write(FILE *out, const struct result *first, const char *unit,
		       double (*figure)(const struct result *))
{
	struct svg_bar bars[COMPETITORS_MAX];
	const struct result *result;
	unsigned n = 0, count, i;
	char params[160];

	config_print(first->config, params, sizeof(params));
	config_next(first, &count);
	for (i = 0, result = first; i < count; i++, result = result->next) {
		struct svg_bar *bar = &bars[n++];

		*bar = (struct svg_bar){.name = result->competitor->name,
					.value = figure(result),
					.kind = kind_of(result)};
		if (figure != time_of)
			continue;
		bar->min = result->ns_op.min;
		bar->max = result->ns_op.max;
		if (result->ratio > 0)
			snprintf(bar->note, sizeof(bar->note),
				 result->ratio >= 100 ? "\u00d7%.0f" : "\u00d7%.2f", result->ratio);
	}
	svg_bars(out, bars, n, params, unit);
}

/* Alike but for the threads? */
static bool same_but_threads(const struct config *a, const struct config *b)
{
	unsigned p;

	if (a->scenario != b->scenario)
		return false;
	for (p = 0; p < BENCH_PARAMS; p++)
		if (p != PARAM_THREADS && a->param[p] != b->param[p])
			return false;
	return true;
}

/* Operations per second by threads, drawn at the first of the ways that belong together. */
static void scaling_write(FILE *out, const struct results *results, const struct result *first)
{
	static struct svg_line lines[COMPETITORS_MAX];
	const struct result *result, *other;
	unsigned n = 0, most = 0, count, i;

	for (result = results->first; result != first; result = result->next)
		if (same_but_threads(result->config, first->config))
			return;
	config_next(first, &count);
	for (i = 0, result = first; i < count; i++, result = result->next) {
		struct svg_line *line = &lines[n];

		line->name = result->competitor->name;
		line->colour = colour_of(result);
		line->n = 0;
		for (other = result; other; other = other->next) {
			if (other->competitor != result->competitor || line->n == SAMPLES_MAX ||
			    !same_but_threads(other->config, first->config) ||
			    other->ns_op.median <= 0)
				continue;
			line->x[line->n] = (double)other->config->param[PARAM_THREADS];
			line->y[line->n++] = 1e3 / other->ns_op.median;
		}
		most = line->n > most ? line->n : most;
		n += line->n > 1;
	}
	if (most > 1 && n)
		svg_lines(out, lines, n, "Scaling with threads",
			  "million operations per second; higher is better", "threads", true);
}

static void memory_write(FILE *out, const struct result *first)
{
	static struct svg_line lines[COMPETITORS_MAX];
	const struct result *result;
	unsigned n = 0, count, i, k;
	char params[160], title[192];

	config_next(first, &count);
	for (i = 0, result = first; i < count; i++, result = result->next) {
		struct svg_line *line = &lines[n];

		line->name = result->competitor->name;
		line->colour = colour_of(result);
		line->n = result->n_samples;
		for (k = 0; k < line->n; k++) {
			line->x[k] = (double)result->sample_ms[k];
			line->y[k] = (double)result->sample_mib[k];
		}
		n += line->n > 1;
	}
	config_print(first->config, params, sizeof(params));
	snprintf(title, sizeof(title), "Memory over time: %s", params);
	if (n)
		svg_lines(out, lines, n, title, "resident MiB", "milliseconds at work", false);
}

static void config_figures(FILE *out, const struct result *first)
{
	const struct scenario *scenario = first->config->scenario;
	char unit[128];

	snprintf(unit, sizeof(unit), "ns per %s", scenario->op);
	bars_write(out, first, unit, time_of);
	if (strcmp(scenario->name, "crowd") == 0 || scenario->sampled)
		bars_write(out, first, "peak MiB of the process", peak_of);
	if (scenario->sampled)
		memory_write(out, first);
	if (strcmp(scenario->name, "tree-fill") == 0 || strcmp(scenario->name, "tree-vma") == 0)
		bars_write(out, first, "bytes per entry", bytes_of);
}

static void row_write(FILE *out, const struct result *result, bool first)
{
	const double *barn_alloc = result_metric(result, "trips.barn_alloc");
	const double *barn_free = result_metric(result, "trips.barn_free");
	const double *backend = result_metric(result, "trips.backend_alloc");
	char params[160];

	config_print(result->config, params, sizeof(params));
	fprintf(out, "<tr class=\"%s%s\"><td>", first ? "first " : "",
		strcmp(kind_of(result), "own") == 0 ? "mine" : "");
	html_text(out, result->competitor->name);
	fprintf(out, "</td><td>%s</td><td>%.2f</td><td>%.2f</td><td>%.2f</td><td>",
		first ? params : "", result->ns_op.median, result->ns_op.min, result->ns_op.max);
	if (result->ratio > 0)
		fprintf(out, "%.2f", result->ratio);
	fprintf(out, "</td><td>%.2f</td><td>%.1f</td><td>", result->cpu_op.median, peak_of(result));
	if (bytes_of(result) > 0)
		fprintf(out, "%.1f", bytes_of(result));
	fprintf(out, "</td><td>");
	if (barn_alloc && barn_free)
		fprintf(out, "%.5f", *barn_alloc + *barn_free);
	fprintf(out, "</td><td>");
	if (backend)
		fprintf(out, "%.5f", *backend);
	fprintf(out, "</td></tr>\n");
}

static void rows_write(FILE *out, const struct results *results, const struct scenario *scenario)
{
	const struct result *result;
	const struct config *config = NULL;

	fprintf(out,
		"<details%s><summary>All figures</summary><div class=\"scroll\"><table><thead><tr>"
		"<th>competitor</th><th>parameters</th><th>median ns</th><th>min</th><th>max</th>"
		"<th>ratio</th><th>CPU ns</th><th>peak MiB</th><th>bytes/entry</th>"
		"<th>barn trips</th><th>backend trips</th></tr></thead><tbody>\n",
		scenario->own ? " open" : "");
	for (result = results->first; result; result = result->next) {
		if (result->config->scenario != scenario)
			continue;
		row_write(out, result, result->config != config);
		config = result->config;
	}
	fprintf(out, "</tbody></table></div></details>\n");
}

static void scenario_write(FILE *out, const struct results *results,
			   const struct scenario *scenario)
{
	const struct result *first = results->first, *result;
	unsigned n;

	while (first && first->config->scenario != scenario)
		first = first->next;
	if (!first)
		return;
	result = first;
	fprintf(out, "<h2 id=\"%s\">%s</h2>\n<p>", scenario->name, scenario->name);
	html_text(out, scenario->what);
	fprintf(out, ".</p>\n");
	if (!scenario->own) {
		fprintf(out, "<div class=\"plots\">\n");
		while (result && result->config->scenario == scenario) {
			config_figures(out, result);
			result = config_next(result, &n);
		}
		for (result = first; result && result->config->scenario == scenario;
		     result = config_next(result, &n))
			scaling_write(out, results, result);
		fprintf(out, "</div>\n");
	}
	rows_write(out, results, scenario);
}

static void head_write(FILE *out, const struct machine *machine, const struct results *results)
{
	const struct scenario *scenario = NULL;
	const struct result *result;

	fprintf(out,
		"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
		"<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
		"<title>sheaf-bench</title>\n<style>\n%s</style></head><body>\n"
		"<h1>libsheaf beside its competitors</h1>\n<p class=\"soft\">",
		style);
	html_text(out, machine->cpu);
	fprintf(out, ", %u cores, %u node%s, %.0f GiB; ", machine->cores, machine->nodes,
		machine->nodes == 1 ? "" : "s", machine->memory_gib);
	html_text(out, machine->kernel);
	fprintf(out, "; ");
	html_text(out, machine->libc);
	fprintf(out, "; ");
	html_text(out, machine->compiler);
	fprintf(out, ", ");
	html_text(out, machine->build);
	fprintf(out, ". ");
	html_text(out, machine->peers);
	fprintf(out, ".</p>\n");
	if (!machine->exact)
		fprintf(out,
			"<p><strong>This build has assertions or checks in it: figures are too "
			"high.</strong></p>\n");
	fprintf(out,
		"<p>Lower is better. Times are wall time by all operations of all threads: the "
		"median of the rounds, and a thin line from the fastest to the slowest. Beside it: "
		"how many times what libsheaf takes. <em>limit</em> is a bare array of pointers "
		"per "
		"thread. Each competitor ran in a process of its own, rounds by turns.</p>\n<nav>");
	for (result = results->first; result; result = result->next) {
		if (result->config->scenario == scenario)
			continue;
		scenario = result->config->scenario;
		fprintf(out, "<a href=\"#%s\">%s</a>", scenario->name, scenario->name);
	}
	fprintf(out, "</nav>\n");
}

int report_write(const char *dir, const struct machine *machine, const struct results *results)
{
	const struct scenario *scenario;
	char *path = NULL;
	FILE *out;
	size_t i;
	int err;

	if (mkdir(dir, 0777) && errno != EEXIST)
		return -errno;
	if (asprintf(&path, "%s/index.html", dir) < 0)
		return -ENOMEM;
	out = fopen(path, "we");
	free(path);
	if (!out)
		return -errno;
	head_write(out, machine, results);
	for (i = 0; (scenario = scenario_nth(i)); i++)
		scenario_write(out, results, scenario);
	fprintf(out, "</body></html>\n");
	errno = 0;
	err = fflush(out) || ferror(out) ? -(errno ? errno : EIO) : 0;
	if (fclose(out) && !err)
		err = -errno;
	return err;
}

/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Plots. Colours and fonts are classes of the page's style sheet, so that one drawing
 * serves screens light and dark, and paper. The coordinates are those of a phone; a wider
 * screen shows plots side by side rather than larger.
 */
#include "bench.h"

#include <math.h>

#define WIDTH 420.0

/* Beyond this a bar says more about the worst than about the rest. */
#define LINEAR_MOST 12.0

void html_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '&':
			fputs("&amp;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			fputc(*text, out);
		}
	}
}

/* 1, 2 or 5 times a power of ten: at most five steps up to most. */
static double step_for(double most)
{
	double ten = pow(10, floor(log10(most / 5)));

	if (most / ten <= 5)
		return ten;
	if (most / (2 * ten) <= 5)
		return 2 * ten;
	return most / (5 * ten) <= 5 ? 5 * ten : 10 * ten;
}

static void value_text(char *text, size_t bytes, double value)
{
	snprintf(text, bytes, value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value);
}

/* ---- Bars ---- */

#define LABEL 138.0
#define NUMBERS 98.0
#define PLOT (WIDTH - LABEL - NUMBERS)
#define ROW 24.0
#define TOP 6.0
#define FOOT 24.0

struct scale {
	bool log;
	double least, most;
};

static double place(const struct scale *scale, double value)
{
	value = fmin(value, scale->most);
	if (!scale->log)
		return LABEL + PLOT * value / scale->most;
	if (value < scale->least)
		value = scale->least;
	return LABEL + PLOT * log(value / scale->least) / log(scale->most / scale->least);
}

static void scale_fit(struct scale *scale, const struct svg_bar *bars, unsigned n)
{
	double least = INFINITY, most = 0, slowest = 0;
	unsigned i;

	for (i = 0; i < n; i++) {
		slowest = fmax(slowest, bars[i].value);
		most = fmax(most, fmax(bars[i].value, bars[i].max));
		if (bars[i].value > 0)
			least = fmin(least, bars[i].value);
	}
	if (most <= 0)
		slowest = most = least = 1;
	scale->log = slowest > LINEAR_MOST * least;
	/* One disturbed round does not make all bars short; its line is cut off. */
	most = fmin(most, 1.5 * slowest);
	scale->most = scale->log ? pow(10, ceil(log10(most))) : most * 1.02;
	scale->least = scale->log ? pow(10, floor(log10(least))) : 0;
}

static void bars_axis(FILE *out, const struct scale *scale, double bottom)
{
	double at, step = scale->log ? 0 : step_for(scale->most);

	for (at = scale->log ? scale->least : 0; at <= scale->most * 1.0001;
	     at = scale->log ? at * 10 : at + step) {
		double x = place(scale, at);

		fprintf(out,
			"<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x,
			x, TOP, bottom);
		fprintf(out,
			"<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" "
			"text-anchor=\"middle\">%g</text>",
			x, bottom + 14, at);
	}
}

static void bar_draw(FILE *out, const struct scale *scale, const struct svg_bar *bar, double y)
{
	double x = place(scale, bar->value), middle = y + ROW / 2;
	char value[32];

	fprintf(out, "<text class=\"name %s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">",
		bar->kind, LABEL - 6, middle + 4);
	html_text(out, bar->name);
	fprintf(out, "</text>");
	if (scale->log)
		fprintf(out,
			"<line class=\"stem\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
			"<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"5.5\"/>",
			LABEL, x, middle, middle, bar->kind, x, middle);
	else
		fprintf(out,
			"<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
			"rx=\"2\"/>",
			bar->kind, LABEL, y + 4, fmax(x - LABEL, 1), ROW - 8);
	if (bar->max > bar->min)
		fprintf(out,
			"<line class=\"spread\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
			place(scale, bar->min), place(scale, bar->max), middle, middle);
	value_text(value, sizeof(value), bar->value);
	fprintf(out, "<text class=\"value %s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
		bar->kind, LABEL + PLOT + 52, middle + 4, value);
	if (bar->note[0])
		fprintf(out,
			"<text class=\"note\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
			WIDTH - 1, middle + 4, bar->note);
}

void svg_bars(FILE *out, const struct svg_bar *bars, unsigned n, const char *title,
	      const char *unit)
{
	double bottom = TOP + ROW * n;
	struct scale scale;
	unsigned i;

	scale_fit(&scale, bars, n);
	fprintf(out, "<figure><figcaption>");
	html_text(out, title);
	fprintf(out, " <em>");
	html_text(out, unit);
	fprintf(out,
		"%s</em></figcaption>\n<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"",
		scale.log ? "; log scale" : "", WIDTH, bottom + FOOT);
	html_text(out, title);
	fprintf(out, "\">\n");
	bars_axis(out, &scale, bottom);
	for (i = 0; i < n; i++) {
		fprintf(out, "\n");
		bar_draw(out, &scale, &bars[i], TOP + ROW * i);
	}
	fprintf(out, "\n</svg></figure>\n");
}

/* ---- Lines ---- */

#define LEFT 46.0
#define RIGHT 12.0
#define HEIGHT 220.0
#define BASE (HEIGHT - 34.0)

struct field {
	double x_least, x_most, y_most;
	bool doubling;
};

static double field_x(const struct field *field, double x)
{
	double part = field->doubling
			      ? log2(x / field->x_least) / log2(field->x_most / field->x_least)
			      : x / field->x_most;

	return LEFT + (WIDTH - LEFT - RIGHT) * part;
}

static double field_y(const struct field *field, double y)
{
	return BASE - (BASE - 8) * y / field->y_most;
}

static void field_fit(struct field *field, const struct svg_line *lines, unsigned n, bool doubling)
{
	unsigned i, k;

	*field = (struct field){.x_least = INFINITY, .doubling = doubling};
	for (i = 0; i < n; i++)
		for (k = 0; k < lines[i].n; k++) {
			field->x_least = fmin(field->x_least, lines[i].x[k]);
			field->x_most = fmax(field->x_most, lines[i].x[k]);
			field->y_most = fmax(field->y_most, lines[i].y[k]);
		}
	field->y_most = field->y_most > 0 ? field->y_most * 1.05 : 1;
	if (field->x_most <= 0)
		field->x_most = 1;
	if (doubling && field->x_most <= field->x_least)
		field->x_most = 2 * field->x_least;
}

static void field_axes(FILE *out, const struct field *field, const char *x_unit)
{
	double at, step = step_for(field->y_most);

	for (at = 0; at <= field->y_most; at += step) {
		double y = field_y(field, at);

		fprintf(out,
			"<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
			LEFT, WIDTH - RIGHT, y, y);
		fprintf(out,
			"<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>",
			LEFT - 6, y + 4, at);
	}
	step = step_for(field->x_most);
	for (at = field->doubling ? field->x_least : 0; at <= field->x_most;
	     at = field->doubling ? 2 * at : at + step)
		fprintf(out,
			"<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" "
			"text-anchor=\"middle\">%g</text>",
			field_x(field, at), BASE + 14, at);
	fprintf(out,
		"<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
		(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_unit);
}

void svg_lines(FILE *out, const struct svg_line *lines, unsigned n, const char *title,
	       const char *unit, const char *x_unit, bool doubling)
{
	struct field field;
	unsigned i, k;

	field_fit(&field, lines, n, doubling);
	fprintf(out, "<figure><figcaption>");
	html_text(out, title);
	fprintf(out, " <em>");
	html_text(out, unit);
	fprintf(out,
		"</em></figcaption>\n<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"",
		WIDTH, HEIGHT);
	html_text(out, title);
	fprintf(out, "\">\n");
	field_axes(out, &field, x_unit);
	/* Ours is drawn last, above the others. */
	for (i = n; i-- > 0;) {
		fprintf(out, "<polyline class=\"line c%u\" points=\"", lines[i].colour);
		for (k = 0; k < lines[i].n; k++)
			fprintf(out, "%.1f,%.1f ", field_x(&field, lines[i].x[k]),
				field_y(&field, lines[i].y[k]));
		fprintf(out, "\"/>\n");
		for (k = 0; doubling && k < lines[i].n; k++)
			fprintf(out, "<circle class=\"dot c%u\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>",
				lines[i].colour, field_x(&field, lines[i].x[k]),
				field_y(&field, lines[i].y[k]));
	}
	fprintf(out, "</svg>\n<ul class=\"legend\">");
	for (i = 0; i < n; i++) {
		fprintf(out,
			"<li><svg viewBox=\"0 0 26 8\" aria-hidden=\"true\"><line class=\"line "
			"c%u\" "
			"x1=\"1\" x2=\"25\" y1=\"4\" y2=\"4\"/></svg>",
			lines[i].colour);
		html_text(out, lines[i].name);
		fprintf(out, "</li>");
	}
	fprintf(out, "</ul></figure>\n");
}

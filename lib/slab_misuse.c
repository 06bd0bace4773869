/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The report of a wrong free: nothing in it needs memory, a lock, or the pointer's. */
#include "slab_misuse.h"

#include "base/report.h"

#include <stdio.h>

static const char *const reasons[] = {
	[SHEAF_SLAB_FOREIGN] = "not an object, its memory is of no slab backend",
	[SHEAF_SLAB_OTHER] = "an object of another slab backend",
	[SHEAF_SLAB_MISALIGNED] = "misaligned, not the start of an object",
	[SHEAF_SLAB_DOUBLE] = "double free, it is free already",
};

void slab_report(const struct sheaf_slab *s, const void *object, enum sheaf_slab_misuse why)
{
	struct sheaf_slab_report report = {.name = s->name, .object = object, .why = why};
	char text[256];

	snprintf(text, sizeof(text), "freed %p to the slab backend \"%s\" of %u-byte objects: %s",
		 object, s->name, s->object_size, reasons[why]);
	if (!s->misuse)
		fatal("%s", text);
	report.text = text;
	s->misuse(s->misuse_arg, &report);
}

/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* An item has memory of malloc() that nobody else knows of. It is freed without that; corrected, it is live at the end of
 * the program, and nothing is lost. */
#include "planted.h"

struct named {
	char *name;
};

static struct item *kept;

static __attribute__((noinline)) void make(void)
{
	struct named *named;

	kept = new_item(1);
	named = (struct named *)kept;
	named->name = malloc(100);
	must(named->name != NULL, "no memory");
	memset(named->name, 'x', 99);
	named->name[99] = 0;
}

int main(int argc, char **argv)
{
	planted_begin(argc, argv);
	make();
	/* Nothing of it in registers and on the stack. */
	(void)new_cache("others");
	if (!fixed) {
		sheaf_cache_free(cache, kept);
		kept = NULL;
	}
	return 0;
}

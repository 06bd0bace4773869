/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The bound of a section was counted wrong: it uses five items, and four were set aside. */
#include "planted.h"

int main(int argc, char **argv)
{
	uint32_t bound = argc > 1 ? 5 : 4, i;
	struct item *items[5];
	struct sheaf *reserve;

	planted_begin(argc, argv);
	reserve = sheaf_cache_prefill(cache, bound, SHEAF_STRICT);
	must(reserve != NULL, "no sheaf");
	for (i = 0; i < 5; i++)
		items[i] = sheaf_cache_alloc_from(cache, reserve);
	sheaf_cache_return(cache, reserve);
	for (i = 0; i < 5; i++)
		sheaf_cache_free(cache, items[i]);
	return planted_end();
}

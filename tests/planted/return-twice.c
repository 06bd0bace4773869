/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A prefilled sheaf is returned, and then once more by who cleans up. */
#include "planted.h"

int main(int argc, char **argv)
{
	struct sheaf *reserve;

	planted_begin(argc, argv);
	reserve = sheaf_cache_prefill(cache, 4, 0);
	must(reserve != NULL, "no sheaf");
	sheaf_cache_free(cache, sheaf_cache_alloc_from(cache, reserve));
	sheaf_cache_return(cache, reserve);
	if (fixed)
		reserve = NULL;
	sheaf_cache_return(cache, reserve);
	return planted_end();
}


/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#ifndef _NIXERY_UNIT_H_INCLUDED_
#define _NIXERY_UNIT_H_INCLUDED_


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>


#endif /* _NIXERY_UNIT_H_INCLUDED_ */

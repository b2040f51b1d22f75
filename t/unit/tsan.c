
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


/*
 * The supervisor is a raw clone, which ThreadSanitizer doesn't know for a fork:
 * without its hooks the child would wait for locks of threads that it hasn't
 * got.  Linked with --wrap=syscall.
 */

#include <stdarg.h>
#include <sys/syscall.h>
#include <sanitizer/linux_syscall_hooks.h>


long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);


long
__wrap_syscall(long number, ...)
{
    int       i;
    long      args[6], rc;
    va_list   ap;

    va_start(ap, number);

    for (i = 0; i < 6; i++) {
        args[i] = va_arg(ap, long);
    }

    va_end(ap);

    if (number == SYS_clone) {
        __sanitizer_syscall_pre_fork();
    }

    rc = __real_syscall(number, args[0], args[1], args[2], args[3], args[4],
                        args[5]);

    if (number == SYS_clone) {
        __sanitizer_syscall_post_fork(rc);
    }

    return rc;
}

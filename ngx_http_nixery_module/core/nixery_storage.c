
/*
 * Copyright (C) The ngx_http_nixery_module authors
 */


#include <stdio.h>
#include "nixery_storage.h"


static const char *const  nixery_storage_folders[] = {
    "layers", "manifests", "builds", NULL
};


const char *
nixery_object_name(nixery_object_t object, const char *folder,
    const char *hex)
{
    (void) snprintf(object, sizeof(nixery_object_t), "%s/%s", folder, hex);

    return object;
}


int
nixery_object_valid(const char *object)
{
    size_t              n;
    const char *const  *folder;

    for (folder = nixery_storage_folders; *folder != NULL; folder++) {
        n = strlen(*folder);

        if (strncmp(object, *folder, n) == 0 && object[n] == '/') {
            object += n + 1;

            return strlen(object) == NIXERY_HEX_LEN
                   && strspn(object, "0123456789abcdef") == NIXERY_HEX_LEN;
        }
    }

    return 0;
}

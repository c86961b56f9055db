#include <stddef.h>
#include <string.h>

#include "dev/dev.h"

extern const sr_device sr_device_cpu;

const sr_device *const sr_devices[] = {&sr_device_cpu, NULL};

const sr_device *sr_device_by_name(const char *name) {
    if (!name) return sr_devices[0];
    for (int i = 0; sr_devices[i]; i++)
        if (strcmp(sr_devices[i]->name, name) == 0) return sr_devices[i];
    return NULL;
}

/* Any bytes as a UQFF file. */
#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sr_file *file;
    sr_err err = {0};
    sr_status s = sr_file_from_memory(data, size, "fuzz.uqff", &file, &err);
    check_outcome(s, file, &err);
    if (file) walk_file(file);
    sr_file_close(file);
    return 0;
}

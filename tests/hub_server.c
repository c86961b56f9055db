/* The server of hub_server.h as a program, for scripts:
 *
 *   hub_server ROOT [MATCH BYTES]
 *
 * Prints its address, serves until standard input ends, and writes a line for each request to standard error: port
 * (0 hub, 1 storage), path, first byte of the range or -1. The first answer to an address with MATCH in it stops after
 * BYTES, with the connection open. */
#include "hub_server.h"

int main(int argc, char **argv) {
    static struct server s;
    if ((argc != 2 && argc != 4) || !server_start(&s, argv[1])) return 2;
    if (argc == 4) s.fault[s.n_faults++] = (struct fault){argv[2], 1, FAULT_STALL, atol(argv[3]), NULL};
    s.log = stderr;
    printf("http://127.0.0.1:%d\n", s.port[0]);
    fflush(stdout);
    for (char c; read(STDIN_FILENO, &c, 1) > 0;) continue;
    server_stop(&s);
    return 0;
}

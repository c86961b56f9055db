/* The server of hub_server.h as a program, for scripts:
 *
 *   hub_server ROOT     prints its address, serves until standard input ends, and writes a line for each request to
 *                       standard error: port (0 hub, 1 storage), path, first byte of the range or -1 */
#include "hub_server.h"

int main(int argc, char **argv) {
    static struct server s;
    if (argc != 2 || !server_start(&s, argv[1])) return 2;
    s.log = stderr;
    printf("http://127.0.0.1:%d\n", s.port[0]);
    fflush(stdout);
    for (char c; read(STDIN_FILENO, &c, 1) > 0;) continue;
    server_stop(&s);
    return 0;
}

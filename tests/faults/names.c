/* Preloaded into kas3: resolves the one name that tests give to this machine, as long as a file is there; else the name server fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints, struct addrinfo **restrict found) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!real) real = (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
    const char *name = getenv("KAS3_TEST_NAME"), *file = getenv("KAS3_TEST_NAME_FILE");
    if (!node || !name || strcmp(node, name)) return real(node, service, hints, found);
    if (!file || access(file, F_OK)) return EAI_AGAIN;
    return real("127.0.0.1", service, hints, found);
}

// Prints how many primes there are below a number, and the last one.

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    long limit = argc > 1 ? atol(argv[1]) : 1000;
    if (limit < 3 || limit > 100000000) {
        fprintf(stderr, "usage: primes LIMIT (3 to 100000000)\n");
        return 1;
    }
    char *composite = calloc(limit, 1);
    if (!composite) {
        perror("primes");
        return 1;
    }
    long count = 0, last = 0;
    for (long n = 2; n < limit; n++) {
        if (composite[n]) continue;
        count++;
        last = n;
        for (long m = n * n; m < limit; m += n) composite[m] = 1;
    }
    printf("%ld primes below %ld, the last one is %ld\n", count, limit, last);
    free(composite);
    return 0;
}

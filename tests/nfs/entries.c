/* Makes many old files quickly: `entries DIR COUNT AGE NAME`, where AGE is in seconds and NAME has one %d. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words)
{
    if (count != 5 || chdir(words[1]) != 0)
        return 2;
    time_t then = time(NULL) - atol(words[3]);
    struct timespec times[2] = {{then, 0}, {then, 0}};
    for (int number = 1; number <= atoi(words[2]); number++) {
        char name[256];
        snprintf(name, sizeof name, words[4], number);
        int file = open(name, O_CREAT | O_WRONLY, 0644);
        if (file < 0 || write(file, "four", 4) != 4 || futimens(file, times) != 0 || close(file) != 0) {
            perror(name);
            return 1;
        }
    }
    return 0;
}

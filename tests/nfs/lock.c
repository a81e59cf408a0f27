/* Holds a lock as another program would: `lock shared|exclusive FILE READY` locks FILE with flock(2), makes the
 * file READY, and waits to be killed. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

int main(int count, char **words)
{
    if (count != 4)
        return 2;
    int shared = strcmp(words[1], "shared") == 0;
    int file = open(words[2], shared ? O_RDONLY : O_RDWR);
    if (file < 0 || flock(file, shared ? LOCK_SH : LOCK_EX) != 0 || open(words[3], O_CREAT | O_WRONLY, 0644) < 0) {
        perror(words[2]);
        return 1;
    }
    pause();
    return 0;
}

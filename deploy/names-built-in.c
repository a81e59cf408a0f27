/* Linked into the static binary by build-static: host names are looked up in /etc/hosts and by DNS, which
 * are built in, whatever /etc/nsswitch.conf says. The other services that it may name are shared libraries,
 * and one that belongs to another version of the C library crashes the process (seen with those of Ubuntu
 * 20.04, 22.04 and 24.04). */
#include <nss.h>

__attribute__((constructor)) static void names_are_built_in(void)
{
    __nss_configure_lookup("hosts", "files dns");
}

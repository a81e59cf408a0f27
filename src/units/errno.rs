//! The names of Linux error numbers.
//!
//! This module must not explain them: the message does. The numbers are those of x86 and Arm, from
//! `asm-generic/errno-base.h` and `asm-generic/errno.h`, and those of `linux/errno.h` that a faulty
//! file system or an NFS client lets through.

/// The names of the numbers from 0; empty where there is no such number.
#[rustfmt::skip]
const NAMES: [&str; 134] = [
    "", "EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "ENXIO", "E2BIG", "ENOEXEC", "EBADF",
    "ECHILD", "EAGAIN", "ENOMEM", "EACCES", "EFAULT", "ENOTBLK", "EBUSY", "EEXIST", "EXDEV",
    "ENODEV", "ENOTDIR", "EISDIR", "EINVAL", "ENFILE", "EMFILE", "ENOTTY", "ETXTBSY", "EFBIG",
    "ENOSPC", "ESPIPE", "EROFS", "EMLINK", "EPIPE", "EDOM", "ERANGE", "EDEADLK", "ENAMETOOLONG",
    "ENOLCK", "ENOSYS", "ENOTEMPTY", "ELOOP", "", "ENOMSG", "EIDRM", "ECHRNG", "EL2NSYNC",
    "EL3HLT", "EL3RST", "ELNRNG", "EUNATCH", "ENOCSI", "EL2HLT", "EBADE", "EBADR", "EXFULL",
    "ENOANO", "EBADRQC", "EBADSLT", "", "EBFONT", "ENOSTR", "ENODATA", "ETIME", "ENOSR", "ENONET",
    "ENOPKG", "EREMOTE", "ENOLINK", "EADV", "ESRMNT", "ECOMM", "EPROTO", "EMULTIHOP", "EDOTDOT",
    "EBADMSG", "EOVERFLOW", "ENOTUNIQ", "EBADFD", "EREMCHG", "ELIBACC", "ELIBBAD", "ELIBSCN",
    "ELIBMAX", "ELIBEXEC", "EILSEQ", "ERESTART", "ESTRPIPE", "EUSERS", "ENOTSOCK", "EDESTADDRREQ",
    "EMSGSIZE", "EPROTOTYPE", "ENOPROTOOPT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EOPNOTSUPP",
    "EPFNOSUPPORT", "EAFNOSUPPORT", "EADDRINUSE", "EADDRNOTAVAIL", "ENETDOWN", "ENETUNREACH",
    "ENETRESET", "ECONNABORTED", "ECONNRESET", "ENOBUFS", "EISCONN", "ENOTCONN", "ESHUTDOWN",
    "ETOOMANYREFS", "ETIMEDOUT", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "EALREADY",
    "EINPROGRESS", "ESTALE", "EUCLEAN", "ENOTNAM", "ENAVAIL", "EISNAM", "EREMOTEIO", "EDQUOT",
    "ENOMEDIUM", "EMEDIUMTYPE", "ECANCELED", "ENOKEY", "EKEYEXPIRED", "EKEYREVOKED",
    "EKEYREJECTED", "EOWNERDEAD", "ENOTRECOVERABLE", "ERFKILL", "EHWPOISON",
];

/// The first number of [`KERNEL_NAMES`].
const KERNEL_FIRST: i32 = 512;

/// The names of the numbers that the kernel uses internally, from [`KERNEL_FIRST`].
#[rustfmt::skip]
const KERNEL_NAMES: [&str; 20] = [
    "ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND", "ENOIOCTLCMD", "ERESTART_RESTARTBLOCK",
    "EPROBE_DEFER", "EOPENSTALE", "ENOPARAM", "", "EBADHANDLE", "ENOTSYNC", "EBADCOOKIE",
    "ENOTSUPP", "ETOOSMALL", "ESERVERFAULT", "EBADTYPE", "EJUKEBOX", "EIOCBQUEUED",
    "ERECALLCONFLICT", "ENOGRACE",
];

/// The name of an error number, such as `EACCES`; `E` and the number if it has none.
pub fn name(number: i32) -> String {
    match known(number) {
        Some(name) => name.to_owned(),
        None => format!("E{number}"),
    }
}

/// The number that [`name`] writes like this, if there is one.
pub fn number(text: &str) -> Option<i32> {
    (0..4096).find(|number| known(*number) == Some(text)).or_else(|| {
        let number = text.strip_prefix('E')?.parse().ok()?;
        (name(number) == text).then_some(number)
    })
}

fn known(number: i32) -> Option<&'static str> {
    let at = |first: i32| usize::try_from(number.checked_sub(first)?).ok();
    let plain = at(0).and_then(|at| NAMES.get(at));
    let name = plain.or_else(|| at(KERNEL_FIRST).and_then(|at| KERNEL_NAMES.get(at)))?;
    (!name.is_empty()).then_some(*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_name_and_reads_back() {
        for (errno, text) in [
            (1, "EPERM"),
            (7, "E2BIG"),
            (13, "EACCES"),
            (40, "ELOOP"),
            (41, "E41"),
            (42, "ENOMSG"),
            (61, "ENODATA"),
            (75, "EOVERFLOW"),
            (107, "ENOTCONN"),
            (112, "EHOSTDOWN"),
            (116, "ESTALE"),
            (122, "EDQUOT"),
            (126, "ENOKEY"),
            (133, "EHWPOISON"),
            (134, "E134"),
            (512, "ERESTARTSYS"),
            (521, "EBADHANDLE"),
            (524, "ENOTSUPP"),
            (528, "EJUKEBOX"),
            (4095, "E4095"),
            (-1, "E-1"),
        ] {
            assert_eq!(name(errno), text);
            assert_eq!(number(text), Some(errno), "{text}");
        }
        for none in ["", "E", "EACCESS", "E13", "13", "E+41"] {
            assert_eq!(number(none), None, "{none}");
        }
        for errno in 0..600 {
            assert_eq!(number(&name(errno)), Some(errno));
        }
    }
}

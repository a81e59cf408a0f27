//! The names of the system's error numbers.
//!
//! It must not explain them: the message does.

/// The name of a Linux error number that a sweep can meet (x86 and Arm numbering), such as `EACCES`.
pub fn name(number: i32) -> String {
    let name = match number {
        1 => "EPERM",
        2 => "ENOENT",
        4 => "EINTR",
        5 => "EIO",
        6 => "ENXIO",
        9 => "EBADF",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        16 => "EBUSY",
        17 => "EEXIST",
        18 => "EXDEV",
        20 => "ENOTDIR",
        21 => "EISDIR",
        22 => "EINVAL",
        23 => "ENFILE",
        24 => "EMFILE",
        26 => "ETXTBSY",
        28 => "ENOSPC",
        30 => "EROFS",
        36 => "ENAMETOOLONG",
        37 => "ENOLCK",
        38 => "ENOSYS",
        39 => "ENOTEMPTY",
        40 => "ELOOP",
        95 => "EOPNOTSUPP",
        107 => "ENOTCONN",
        116 => "ESTALE",
        117 => "EUCLEAN",
        121 => "EREMOTEIO",
        122 => "EDQUOT",
        other => return format!("E{other}"),
    };
    name.to_owned()
}

/// The number that has this name.
pub(super) fn number(text: &str) -> Option<i32> {
    (1..=4095).find(|number| name(*number) == text)
}

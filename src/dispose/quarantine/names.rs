//! The names of private directories, and of entries in them.
//!
//! This module must not look at the file system. An entry has its own name in there, of up to 255 bytes, so that the
//! next pass knows where it came from. Only old export caches have their number in front of it: of an instance whose
//! number has more than 230 digits, which no application gives, they are removed where they are.

use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::protocol::Directory;
use crate::rules::names::{QUARANTINE, QUARANTINE_SEPARATOR as SEPARATOR};

/// The name of an entry in the quarantine of `listed`.
pub(super) fn inner_name(
    directory: &Directory,
    listed: &Directory,
    name: &CStr,
) -> io::Result<CString> {
    let below = directory.dir.strip_prefix(&listed.dir).unwrap_or(Path::new(""));
    let mut inner = Vec::new();
    for step in below {
        inner.extend_from_slice(step.as_bytes());
        inner.push(SEPARATOR);
    }
    inner.extend_from_slice(name.to_bytes());
    Ok(CString::new(inner)?)
}

/// A name beside `original`, for an entry of the quarantine `name` whose own name was taken. `again` is the
/// number of such names that are taken, too.
pub(super) fn beside(original: &CStr, name: &CStr, again: u32) -> io::Result<CString> {
    let mut end = b".kept-".to_vec();
    end.extend_from_slice(&name.to_bytes()[QUARANTINE.len()..]);
    if again > 0 {
        end.extend_from_slice(format!("-{again}").as_bytes());
    }
    let mut beside = original.to_bytes().to_vec();
    beside.truncate(255 - end.len());
    beside.append(&mut end);
    Ok(CString::new(beside)?)
}

/// `.sweeper-` and 64 random bits.
pub(super) fn unique() -> CString {
    let mut bits = [0_u8; 8];
    // Without a source of randomness the process and a counter must do: `mkdir` refuses a name that exists.
    if rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::NONBLOCK).is_err() {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        bits[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        bits[4..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_ne_bytes());
    }
    let mut name = String::from_utf8_lossy(QUARANTINE).into_owned();
    for byte in bits {
        let _ = write!(name, "{byte:02x}");
    }
    CString::new(name).unwrap_or_default()
}

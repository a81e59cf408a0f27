//! Opens the list of `--from0`.
//!
//! This module must not wait for a writer of the list when the pass is told to stop.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::engine::Limits;

/// A list that can be read.
pub(super) type List = Box<dyn Read + Send>;

/// Opens the list at `path`, or stdin for `-`.
pub(super) fn open_list(path: &Path, limits: &Limits) -> io::Result<List> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    open_file(path, limits)
}

/// Opens a list in a file. The open of a FIFO waits for its writer, so it is made in a thread; if the pass is
/// stopped first, the list is empty.
fn open_file(path: &Path, limits: &Limits) -> io::Result<List> {
    const PATIENCE: Duration = Duration::from_millis(50);
    let (to, opened) = sync_channel(1);
    let path = path.to_owned();
    // Nothing receives it once the pass is over.
    let open = move || drop(to.send(std::fs::File::open(path)));
    std::thread::Builder::new().spawn(open)?;
    while !limits.is_stopped() {
        if let Ok(list) = opened.recv_timeout(PATIENCE) {
            return Ok(Box::new(list?));
        }
    }
    Ok(Box::new(io::empty()))
}

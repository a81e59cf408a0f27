//! Opens the list of `--from0`.
//!
//! It must not wait for a writer of the list when the pass is told to stop.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::Refusal;
use crate::config::Config;
use crate::engine::Limits;
use crate::fs::DataRoot;
use crate::rules::Zone;
use crate::source::PathList;
use crate::units;

/// The paths to look at, if there is a list.
pub(super) fn path_list(
    config: &Config,
    root: &DataRoot,
    zones: &[Arc<Zone>],
    limits: &Limits,
) -> Result<Option<PathList>, Refusal> {
    let Some(path) = &config.from0 else { return Ok(None) };
    let is_swept = |zone: &&Arc<Zone>| zones.iter().any(|swept| swept.name == zone.name);
    let others: Vec<Arc<Zone>> =
        config.all_zones.iter().filter(|zone| !is_swept(zone)).cloned().collect();
    let list = if path.as_os_str() == "-" {
        PathList::new(std::io::stdin(), root, zones, &others)
    } else {
        open_list(path, limits).and_then(|list| PathList::new(list, root, zones, &others))
    };
    let refused = |error| Refusal::Start(format!("the list {path:?}: {}", units::error(&error)));
    list.map(Some).map_err(refused)
}

/// Opens a list of paths. The open of a FIFO waits for its writer, so it is made in a thread; if the pass is
/// stopped first, the list is empty.
fn open_list(path: &Path, limits: &Limits) -> io::Result<Box<dyn io::Read + Send>> {
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

//! Entries that get their names again while workers list the directory.
//!
//! This module must not touch a file.

use super::*;

#[test]
fn only_the_entry_that_returns_is_left_to_the_worker_that_returns_it() {
    let zone = zone("z");
    let (run, source) = (ZoneRun::new(&zone, Arc::default()), FakeSource::new(&zone, &MIXED));
    let directory = &source.directory;
    let entry = |at| {
        let (dir, name, metadata) = (&*directory.dir, c"name", source.metadata(at));
        Entry { zone: &zone, directory, dir, name, metadata }
    };
    let [returns, other] = [entry(0), entry(1)];
    run.remember_returned(directory.id, c"name", returns.metadata.id);
    assert!(run.is_returned(&returns));
    // A new one has the name: the rename will fail.
    assert!(!run.is_returned(&other));
    run.remember_returned(directory.id, c"name", other.metadata.id);
    run.forget_returned(directory.id, c"name", returns.metadata.id);
    assert!(!run.is_returned(&returns) && run.is_returned(&other));
}

//! Trees that are taken out of reach and come back.

use std::fs;

use super::super::check::Interrupted;
use super::*;
use crate::fs::stat::Freshness;
use crate::inspect::tests::Setup;
use crate::protocol::Storage;
use crate::rules::LastUse;

fn setup() -> (Setup, Arc<Directory>) {
    let setup = Setup::new(LastUse::Tree);
    fs::create_dir(setup.path("tree")).unwrap();
    fs::write(setup.path("tree/file"), "x").unwrap();
    let directory = Arc::clone(setup.claim(c"tree").expired().directory());
    (setup, directory)
}

fn names(setup: &Setup) -> Vec<String> {
    let names = fs::read_dir(setup.scratch.path()).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_tree_goes_out_of_reach_and_comes_back_with_all_that_is_in_it() {
    let (setup, directory) = setup();
    let quarantines = Quarantines::new();
    let detached = quarantines.detach(&directory, c"tree").unwrap();
    assert!(!setup.path("tree").exists());
    let all = names(&setup);
    assert!(all.len() == 1 && crate::rules::names::is_quarantine(all[0].as_bytes()), "{all:?}");
    assert_eq!(detached.put_back().unwrap(), Returned::Yes);
    assert_eq!(fs::read(setup.path("tree/file")).unwrap(), b"x");
    drop((detached, quarantines));
    assert_eq!(names(&setup), ["tree"], "nothing is left behind");
}

#[test]
fn a_tree_whose_name_was_taken_comes_back_beside_it() {
    let (setup, directory) = setup();
    let quarantines = Quarantines::new();
    let mut detached = quarantines.detach(&directory, c"tree").unwrap();
    detached.approve().unwrap();
    fs::write(setup.path("tree"), "new").unwrap();
    let Returned::Beside(name) = detached.put_back().unwrap() else { panic!() };
    drop((detached, quarantines));
    assert_eq!(fs::read(setup.path("tree")).unwrap(), b"new");
    let beside = setup.path(name.to_str().unwrap());
    assert_eq!(fs::read(beside.join("file")).unwrap(), b"x");
    assert!(name.to_str().unwrap().starts_with("tree.kept-"), "{name:?}");
}

fn adopted(directory: &Arc<Directory>, name: &CStr) -> (Quarantine, Interrupted) {
    match Quarantine::adopt(directory, name, None).unwrap() {
        Adopted::Yes(quarantine, interrupted) => (quarantine, interrupted),
        other @ (Adopted::No | Adopted::Foreign(_)) => panic!("{other:?}"),
    }
}

#[test]
fn a_quarantine_is_adopted_only_when_its_process_is_gone() {
    let (setup, directory) = setup();
    let quarantines = Quarantines::new();
    let detached = quarantines.detach(&directory, c"tree").unwrap();
    let name = CString::new(names(&setup).remove(0)).unwrap();
    assert!(
        matches!(Quarantine::adopt(&directory, &name, None).unwrap(), Adopted::No),
        "it is locked"
    );
    // As after a crash: the descriptors are closed, and nothing else happens.
    let quarantine = Arc::clone(&detached.quarantine);
    rustix::fs::flock(&quarantine.top, FlockOperation::Unlock).unwrap();
    let (adopted, interrupted) = adopted(&directory, &name);
    assert!(interrupted.idle.is_none(), "when it crashed is not known");
    let leftover = Arc::new(adopted).leftover(Stage::Check, c"tree").unwrap();
    assert_eq!(leftover.put_back().unwrap(), Returned::Yes);
    assert!(setup.path("tree/file").exists());
}

#[test]
fn a_quarantine_with_a_rest_tells_when_its_process_ended() {
    let (setup, directory) = setup();
    let quarantines = Quarantines::new();
    let mut detached = quarantines.detach(&directory, c"tree").unwrap();
    let name = CString::new(names(&setup).remove(0)).unwrap();
    detached.approve().unwrap();
    drop((detached, quarantines));
    let (adopted, interrupted) = adopted(&directory, &name);
    let (ended, adopted_at) = interrupted.idle.unwrap();
    assert!(ended <= adopted_at && interrupted.began.is_none_or(|began| began <= ended));
    let leftover = Arc::new(adopted).leftover(Stage::Remove, c"tree").unwrap();
    assert_eq!(leftover.put_back().unwrap(), Returned::Yes);
}

/// A file that another process moves in is told by these times alone.
#[test]
fn no_removal_shares_its_moment_with_what_others_do_between_two_processes() {
    for _ in 0..20 {
        let (setup, directory) = setup();
        fs::write(setup.path("tree/other"), "x").unwrap();
        let quarantines = Quarantines::new();
        let mut detached = quarantines.detach(&directory, c"tree").unwrap();
        let name = CString::new(names(&setup).remove(0)).unwrap();
        detached.approve().unwrap();
        let tree = setup.path(name.to_str().unwrap()).join("remove/tree");
        let changed = || {
            let found = stat::at(rustix::fs::CWD, &path(&tree), 0, Freshness::Synced);
            found.unwrap().mtime
        };
        fs::rename(tree.join("file"), setup.path("file")).unwrap();
        let last = changed();
        drop((detached, quarantines));
        let (_adopted, interrupted) = adopted(&directory, &name);
        fs::rename(tree.join("other"), setup.path("other")).unwrap();
        let (ended, adopted_at) = interrupted.idle.unwrap();
        assert!(last < ended && ended <= adopted_at && adopted_at < changed());
    }
}

fn path(path: &std::path::Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

#[test]
fn a_directory_that_others_could_have_made_is_not_adopted() {
    let (setup, directory) = setup();
    let name = c".sweeper-0123456789abcdef";
    fs::create_dir_all(setup.path(".sweeper-0123456789abcdef/remove/victim")).unwrap();
    let adopted = Quarantine::adopt(&directory, name, None).unwrap();
    assert!(matches!(adopted, Adopted::Foreign(_)), "its mode is not 0700");
    assert!(setup.path(".sweeper-0123456789abcdef/remove/victim").exists());
}

#[test]
fn an_entry_below_the_listed_directory_finds_its_way_back() {
    let (setup, listed) = setup();
    fs::create_dir_all(setup.path("7/export_cache")).unwrap();
    let handle = open::dir(&listed.handle, c"7", Across::SameMount).unwrap().handle;
    let (id, mount) = stat::id_and_mount(&handle).unwrap();
    let (path, dir) = (listed.path.join("7"), listed.dir.join("7"));
    let (zone, above) = (Arc::clone(&listed.zone), Some(Arc::clone(&listed)));
    let (listed, storage) = (above, Storage::default());
    let directory = Arc::new(Directory { zone, path, dir, handle, id, mount, listed, storage });
    let quarantines = Quarantines::new();
    let detached = quarantines.detach(&directory, c"export_cache").unwrap();
    assert_eq!(detached.name.as_c_str(), c"7%export_cache");
    assert!(!setup.path("7/export_cache").exists());
    assert_eq!(detached.put_back().unwrap(), Returned::Yes);
    assert!(setup.path("7/export_cache").exists());
}

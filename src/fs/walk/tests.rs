//! Walks over real trees, with visitors that look and visitors that remove.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, unlinkat};

use super::*;
use crate::control::Unlimited;
use crate::fs::PathError;
use crate::fs::stat::id_and_mount;
use crate::rules::FileSystem;

/// A control that always has an idle worker, which is a thread of its own.
#[derive(Default)]
struct Eager {
    joins: AtomicUsize,
    is_stopped: bool,
}

impl Control for Eager {
    fn is_stopped(&self) -> bool {
        self.is_stopped
    }
    fn is_urgent(&self) -> bool {
        self.is_stopped
    }
    fn has_several_workers(&self) -> bool {
        true
    }
    fn has_idle_worker(&self) -> bool {
        self.joins.load(Ordering::Relaxed) < 64
    }
    fn join<L: Send, R: Send>(
        &self,
        left: impl FnOnce() -> L + Send,
        right: impl FnOnce() -> R + Send,
    ) -> (L, R) {
        self.joins.fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let right = scope.spawn(right);
            (left(), right.join().unwrap())
        })
    }
}

/// How often each path was visited, and the most descriptors that were open below a directory.
#[derive(Default)]
struct Counter {
    seen: BTreeMap<PathBuf, usize>,
    dirs: usize,
    most_open: usize,
    below: PathBuf,
    ends_at: Option<&'static str>,
}

fn path_of(at: &EntryRef<'_>) -> PathBuf {
    let steps = at.trail.iter().map(CString::as_c_str).chain([at.name]);
    steps.map(|step| std::ffi::OsStr::from_bytes(step.to_bytes())).collect()
}

impl Visit for Counter {
    fn fork(&self) -> Self {
        Self { ends_at: self.ends_at, below: self.below.clone(), ..Self::default() }
    }
    fn join(&mut self, other: Self) {
        for (path, times) in other.seen {
            *self.seen.entry(path).or_default() += times;
        }
        self.dirs += other.dirs;
        self.most_open = self.most_open.max(other.most_open);
    }
    fn enter(&mut self, _dir: &OwnedFd, _m: &Metadata, _depth: usize, _moves_atime: bool) -> Flow {
        self.dirs += 1;
        // Other tests of this process run at the same time and have files open, too.
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let leads_to = open.filter_map(|handle| fs::read_link(handle.path()).ok());
        let ours = leads_to.filter(|path| path.starts_with(&self.below)).count();
        self.most_open = self.most_open.max(ours);
        ControlFlow::Continue(())
    }
    fn file(&mut self, at: &EntryRef<'_>, _m: &Metadata, _opened: Option<OwnedFd>) -> Flow {
        *self.seen.entry(path_of(at)).or_default() += 1;
        if self.ends_at.is_some_and(|name| at.name.to_bytes() == name.as_bytes()) {
            return ControlFlow::Break(Break::Enough);
        }
        ControlFlow::Continue(())
    }
    fn leave(&mut self, _at: &EntryRef<'_>, _dir: &Leaving<'_>) -> ControlFlow<Break, Next> {
        ControlFlow::Continue(Next::Up)
    }
    fn mount_point(&mut self, at: &EntryRef<'_>) -> Flow {
        panic!("{:?} is no mount point", path_of(at))
    }
    fn lost(&mut self) -> Flow {
        panic!("lost")
    }
    fn failed(&mut self, _at: &EntryRef<'_>, error: PathError) -> Flow {
        panic!("{error:?}")
    }
}

/// Removes everything, and runs `before_dir` before each directory is removed.
struct Remover<'a> {
    before_dir: &'a (dyn Fn(&CStr) + Sync),
    removed: u64,
}

impl Visit for Remover<'_> {
    const REMOVES: bool = true;
    fn fork(&self) -> Self {
        Self { before_dir: self.before_dir, removed: 0 }
    }
    fn join(&mut self, other: Self) {
        self.removed += other.removed;
    }
    fn enter(&mut self, _dir: &OwnedFd, _m: &Metadata, _depth: usize, _moves_atime: bool) -> Flow {
        ControlFlow::Continue(())
    }
    fn file(&mut self, at: &EntryRef<'_>, _m: &Metadata, _opened: Option<OwnedFd>) -> Flow {
        unlinkat(at.dir, at.name, AtFlags::empty()).unwrap();
        self.removed += 1;
        ControlFlow::Continue(())
    }
    fn leave(&mut self, at: &EntryRef<'_>, _dir: &Leaving<'_>) -> ControlFlow<Break, Next> {
        (self.before_dir)(at.name);
        match unlinkat(at.dir, at.name, AtFlags::REMOVEDIR) {
            Ok(()) => self.removed += 1,
            Err(Errno::NOTEMPTY) => return ControlFlow::Continue(Next::Again),
            Err(error) => {
                return ControlFlow::Break(Break::Failed(at.error(Action::Rmdir, error)));
            }
        }
        ControlFlow::Continue(Next::Up)
    }
    fn mount_point(&mut self, _at: &EntryRef<'_>) -> Flow {
        ControlFlow::Break(Break::Enough)
    }
    fn lost(&mut self) -> Flow {
        ControlFlow::Break(Break::Enough)
    }
    fn failed(&mut self, _at: &EntryRef<'_>, error: PathError) -> Flow {
        ControlFlow::Break(Break::Failed(error))
    }
    fn progress(&self) -> u64 {
        self.removed
    }
}

fn walked<V: Visit, C: Control>(root: &Path, control: &C, visitor: &mut V) -> Flow {
    walked_on(FileSystem::Local, root, control, visitor)
}

fn walked_on<V: Visit, C: Control>(
    file_system: FileSystem,
    root: &Path,
    control: &C,
    visitor: &mut V,
) -> Flow {
    let parent = File::open(root).unwrap();
    let (parent_id, mount) = id_and_mount(&parent).unwrap();
    let top = open::dir(&parent, c"top", Across::SameMount).unwrap().handle;
    let (id, _) = id_and_mount(&top).unwrap();
    let (parent, path, name) = (parent.as_fd(), root, c"top");
    let tree = WalkContext { control, parent, parent_id, path, name, mount, file_system };
    walk(&tree, top.as_fd(), id, visitor)
}

/// `top` with `dirs` directories of `files` files each, a link out of the tree, and files beside them.
fn tree(dirs: usize, files: usize) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let top = scratch.path().join("top");
    fs::create_dir_all(&top).unwrap();
    for dir in 0..dirs {
        let dir = top.join(format!("dir-{dir}"));
        fs::create_dir(&dir).unwrap();
        (0..files).for_each(|file| fs::write(dir.join(format!("file-{file}")), "x").unwrap());
    }
    (0..files).for_each(|file| fs::write(top.join(format!("beside-{file}")), "x").unwrap());
    fs::create_dir(scratch.path().join("elsewhere")).unwrap();
    fs::write(scratch.path().join("elsewhere/keep"), "x").unwrap();
    std::os::unix::fs::symlink("../elsewhere", top.join("link")).unwrap();
    scratch
}

#[test]
fn every_file_is_visited_once_and_no_link_is_followed() {
    let scratch = tree(20, 50);
    for control in [None, Some(Eager::default())] {
        let mut counter = Counter::default();
        let flow = match &control {
            None => walked(scratch.path(), &Unlimited, &mut counter),
            Some(eager) => walked(scratch.path(), eager, &mut counter),
        };
        assert!(flow.is_continue());
        assert_eq!((counter.dirs, counter.seen.len()), (21, 20 * 50 + 50 + 1));
        assert!(counter.seen.values().all(|times| *times == 1));
        assert!(counter.seen.contains_key(Path::new("top/link")));
    }
}

#[test]
fn a_deep_tree_takes_few_descriptors() {
    let scratch = tempfile::tempdir().unwrap();
    let deep = (0..300).fold(scratch.path().join("top"), |path, _| path.join("d"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "x").unwrap();
    let mut counter = Counter { below: scratch.path().to_owned(), ..Counter::default() };
    assert!(walked(scratch.path(), &Unlimited, &mut counter).is_continue());
    assert_eq!((counter.dirs, counter.seen.len()), (301, 1));
    assert!((1..20).contains(&counter.most_open), "{}", counter.most_open);
    let mut remover = Remover { before_dir: &|_| (), removed: 0 };
    assert!(walked(scratch.path(), &Unlimited, &mut remover).is_continue());
    assert_eq!(remover.removed, 302);
    assert!(!scratch.path().join("top").exists());
}

#[test]
fn the_visitor_or_a_stop_ends_a_walk() {
    let scratch = tree(3, 3);
    let mut counter = Counter { ends_at: Some("file-1"), ..Counter::default() };
    let flow = walked(scratch.path(), &Unlimited, &mut counter);
    assert!(matches!(flow, ControlFlow::Break(Break::Enough)), "{flow:?}");
    let stopped = Eager { is_stopped: true, ..Eager::default() };
    let flow = walked(scratch.path(), &stopped, &mut Counter::default());
    assert!(matches!(flow, ControlFlow::Break(Break::Stopped)), "{flow:?}");
}

#[test]
fn several_workers_remove_a_tree_together() {
    let scratch = tree(20, 50);
    let eager = Eager::default();
    let mut remover = Remover { before_dir: &|_| (), removed: 0 };
    assert!(walked(scratch.path(), &eager, &mut remover).is_continue());
    assert_eq!(remover.removed, 20 * 51 + 50 + 1 + 1);
    assert!(eager.joins.into_inner() > 0);
    assert!(scratch.path().join("elsewhere/keep").exists(), "beyond a link");
}

#[test]
fn a_name_that_appears_during_a_removal_is_found() {
    let scratch = tree(1, 1);
    let (top, once) = (scratch.path().join("top"), AtomicUsize::new(0));
    let add = |name: &CStr| {
        if name == c"dir-0" && once.fetch_add(1, Ordering::Relaxed) == 0 {
            fs::write(top.join("dir-0/late"), "x").unwrap();
        }
    };
    let mut remover = Remover { before_dir: &add, removed: 0 };
    assert!(walked(scratch.path(), &Unlimited, &mut remover).is_continue());
    assert!(!top.exists());
}

#[test]
fn a_directory_that_is_moved_out_of_the_tree_ends_a_removal() {
    let scratch = tempfile::tempdir().unwrap();
    let top = scratch.path().join("top");
    fs::create_dir_all(top.join("a/b/c")).unwrap();
    let moved = scratch.path().join("moved");
    let move_away = |name: &CStr| {
        if name == c"c" {
            fs::rename(top.join("a"), &moved).unwrap();
        }
    };
    let mut remover = Remover { before_dir: &move_away, removed: 0 };
    let flow = walked(scratch.path(), &Unlimited, &mut remover);
    let ControlFlow::Break(Break::Failed(error)) = flow else { panic!("{flow:?}") };
    assert_eq!(error.action, Action::OpenParent);
    assert!(moved.exists(), "it is not part of the tree any more");
}

/// Goes on where it can when a directory is moved away, and counts how often that happened.
#[derive(Default)]
struct Persistent<'a> {
    files: Vec<Vec<u8>>,
    cut_off: Vec<(PathBuf, usize)>,
    at_bottom: Option<&'a (dyn Fn() + Sync)>,
}

impl Visit for Persistent<'_> {
    fn fork(&self) -> Self {
        Self { at_bottom: self.at_bottom, ..Self::default() }
    }
    fn join(&mut self, other: Self) {
        self.files.extend(other.files);
        self.cut_off.extend(other.cut_off);
    }
    fn enter(&mut self, _dir: &OwnedFd, _m: &Metadata, _depth: usize, _moves_atime: bool) -> Flow {
        ControlFlow::Continue(())
    }
    fn file(&mut self, at: &EntryRef<'_>, _m: &Metadata, _opened: Option<OwnedFd>) -> Flow {
        self.files.push(at.name.to_bytes().to_owned());
        if let (b"bottom", Some(act)) = (at.name.to_bytes(), self.at_bottom) {
            act();
        }
        ControlFlow::Continue(())
    }
    fn leave(&mut self, _at: &EntryRef<'_>, _dir: &Leaving<'_>) -> ControlFlow<Break, Next> {
        ControlFlow::Continue(Next::Up)
    }
    fn mount_point(&mut self, at: &EntryRef<'_>) -> Flow {
        panic!("{:?} is no mount point", path_of(at))
    }
    fn lost(&mut self) -> Flow {
        ControlFlow::Continue(())
    }
    fn cut_off(&mut self, error: PathError, depth: usize) -> Flow {
        self.cut_off.push((error.path, depth));
        ControlFlow::Continue(())
    }
    fn failed(&mut self, _at: &EntryRef<'_>, error: PathError) -> Flow {
        panic!("{error:?}")
    }
}

#[test]
fn a_walk_that_only_looks_can_go_on_when_a_deep_directory_is_moved_or_removed() {
    for is_removed in [false, true] {
        let scratch = tempfile::tempdir().unwrap();
        let path = |levels: usize| {
            (0..levels)
                .fold(scratch.path().join("top"), |path, level| path.join(format!("{level}")))
        };
        fs::create_dir_all(path(14)).unwrap();
        fs::write(path(14).join("bottom"), "x").unwrap();
        for level in [0, 5] {
            fs::create_dir_all(path(level).join("0-beside")).unwrap();
            fs::write(path(level).join("0-beside/file"), "x").unwrap();
        }
        let act = || {
            if is_removed {
                unlinkat(rustix::fs::CWD, path(14).join("bottom"), AtFlags::empty()).unwrap();
                for level in [14, 13, 12] {
                    unlinkat(rustix::fs::CWD, path(level), AtFlags::REMOVEDIR).unwrap();
                }
            } else {
                fs::rename(path(12), scratch.path().join("moved")).unwrap();
            }
        };
        let mut visitor = Persistent { at_bottom: Some(&act), ..Persistent::default() };
        assert!(walked(scratch.path(), &Unlimited, &mut visitor).is_continue());
        visitor.files.sort();
        assert_eq!(visitor.files, [&b"bottom"[..], b"file", b"file"], "removed: {is_removed}");
        // The walk goes on in the deepest directory that is still open.
        assert_eq!(visitor.cut_off.len(), 1, "{:?}", visitor.cut_off);
        assert_eq!(visitor.cut_off[0].1, KEPT_OPEN - 1);
    }
}

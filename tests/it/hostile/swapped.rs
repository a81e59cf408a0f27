//! A FIFO that takes the name of a file at any moment of a pass is not opened: a process that waits at its other
//! end would continue.

use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::inotify;

use super::OLD;
use crate::paused::{Moment, Paused};
use crate::world::{World, fifo};

/// A data root whose temporary directories are open to everyone, and the names of two files in it.
fn world() -> (World, [&'static str; 2]) {
    let world = World::new();
    let names = ["tmp/file", "tmp/tree/sub/m"];
    for path in ["tmp/tree/a", "tmp/tree/sub/z"].into_iter().chain(names) {
        world.file(path, OLD);
    }
    for dir in ["tmp", "tmp/tree", "tmp/tree/sub"] {
        fs::set_permissions(world.path(dir), PermissionsExt::from_mode(0o777)).unwrap();
    }
    world.age_dirs("tmp", OLD);
    (world, names)
}

#[test]
fn a_fifo_that_takes_the_name_of_a_file_at_any_moment_is_not_opened() {
    let mut moments = 0;
    for calls in ["statx", "getdents64", "openat2"] {
        for count in 1.. {
            let (world, names) = world();
            let pipes = ["one", "two"].map(|name| world.path(name));
            let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
            for pipe in &pipes {
                fifo(pipe, 0);
                inotify::add_watch(&watch, pipe, inotify::WatchFlags::OPEN).unwrap();
            }
            let Ok(pass) = Paused::at(&world, &[], 4096, &Moment::of(calls, count)) else { break };
            // Where the directory is gone by now, there is no name to take.
            let taken = names.map(|name| world.path(name));
            for (pipe, name) in pipes.iter().zip(&taken) {
                let _ = fs::rename(pipe, name);
            }
            let run = pass.finish();
            let mut buffer = [MaybeUninit::uninit(); 1024];
            let mut opened = inotify::Reader::new(&watch, &mut buffer);
            assert!(opened.next().is_err(), "opened after {count} {calls}: {}", run.stdout);
            for (pipe, name) in pipes.iter().zip(&taken) {
                assert!(
                    pipe.exists() || name.exists(),
                    "lost after {count} {calls}: {}",
                    run.stdout
                );
            }
            moments += 1;
        }
    }
    assert!(moments > 25, "{moments} moments");
}

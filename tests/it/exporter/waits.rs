//! Waiting for the server: signals do not end it by chance, slow answers keep batches, and the end of a pass is
//! not waited for.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::fake::Way;
use super::server::Redis;
use super::{export, key};
use crate::company::{count, is_pending, send};
use crate::interrupted::has_strace;
use crate::start::Start;
use crate::wait::wait_until;
use crate::world::{Run, World, assert_counts, zone};

fn command(world: &World, url: &str, args: &[&str]) -> Command {
    let mut command = world.command(&["run", "--format", "json", "--zones", "export"]);
    command.args(["--redis", url]).args(args).arg("--cvat-data").arg(&world.root);
    command
}

fn start(world: &World, url: &str, args: &[&str]) -> Child {
    command(world, url, args).stdout(Stdio::piped()).stderr(Stdio::piped()).start().unwrap()
}

fn exports(world: &World, count: u32) {
    for number in 0..count {
        export(world, number);
    }
}

/// The id of a process that is started after what waits for it.
#[derive(Clone, Default)]
struct LaterId(Arc<OnceLock<u32>>);

impl LaterId {
    fn wait(&self) -> u32 {
        wait_until("the program has started", || self.0.get().is_some());
        *self.0.get().unwrap()
    }

    /// Sends a signal and waits until that has come about.
    fn send(&self, signal: Signal, has_come: impl Fn(u32) -> bool) {
        let id = self.wait();
        kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), signal).unwrap();
        wait_until("the signal has come", || has_come(id));
    }
}

/// Whether all threads of a process are stopped.
fn is_stopped(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| stat.contains(") T "))
}

#[test]
fn a_process_that_is_stopped_and_continued_goes_on_waiting_for_the_server() {
    let Some(redis) = Redis::start(&[]) else { return };
    let program = LaterId::default();
    // At each of its waits.
    let stop = {
        let program = program.clone();
        move |_: usize, _: &[u8]| {
            for _ in 0..3 {
                program.send(Signal::STOP, is_stopped);
                program.send(Signal::CONT, |id| !is_stopped(id));
            }
        }
    };
    let slow = Way::slow_while(&redis, Duration::from_millis(300), stop);
    let world = World::new();
    exports(&world, 20);
    let child = start(&world, &slow.url, &["--jobs", "1"]);
    program.0.set(child.id()).unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    assert_counts(&run.exits(0).json(), "export", &[("removed", 20)]);
    assert!(slow.sent.load(Ordering::SeqCst) > 3);
    assert!(redis.keys().is_empty());
}

#[test]
fn a_pass_that_is_told_to_end_while_it_waits_is_stopped_and_its_server_is_not_unreachable() {
    for (signal, args) in [(Some(Signal::TERM), &[][..]), (None, &["--deadline", "1s"])] {
        let Some(redis) = Redis::start(&[]) else { return };
        let (program, asked) = (LaterId::default(), Arc::<AtomicBool>::default());
        // While it asks for the first locks, before the server has even heard of it.
        let tell = {
            let (program, asked) = (program.clone(), Arc::clone(&asked));
            move |_, request: &[u8]| {
                let is_for_locks = request.windows(5).any(|word| word == b"'SET'");
                let Some(signal) = signal.filter(|_| is_for_locks) else { return };
                if !asked.swap(true, Ordering::SeqCst) {
                    program.send(signal, |id| !is_pending(id, signal));
                }
            }
        };
        let slow = Way::slow_while(&redis, Duration::from_secs(1), tell);
        let world = World::new();
        exports(&world, 5000);
        let child = start(&world, &slow.url, &[&["--jobs", "1"], args].concat());
        program.0.set(child.id()).unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        let report = run.exits(3).json();
        let reason = if signal.is_some() { "signal" } else { "deadline" };
        assert_eq!(report["stopped"], reason);
        // It asks for the locks of one batch, and then for nothing but to release them.
        assert_eq!(asked.load(Ordering::SeqCst), signal.is_some());
        let keys = slow.keys.load(Ordering::SeqCst);
        assert!(keys <= 2 * 1024, "{keys}");
        assert_eq!(count(world.path("cache/export")), 5000);
        assert_eq!(zone(&report, "export")["failed"], 0);
        assert!(redis.keys().is_empty() || run.stdout.contains("locks were not released"));
    }
}

#[test]
fn a_service_that_reloads_while_a_pass_waits_for_the_server_leaves_no_exports_alone() {
    let Some(redis) = Redis::start(&[]) else { return };
    let slow = Way::slow(&redis, Duration::from_millis(300));
    let world = World::new();
    exports(&world, 20);
    let mut command = world.command(&["serve", "--at-start", "--format", "jsonl", "--jobs", "1"]);
    command.args(["--max-share", "100%", "--redis", &slow.url, "--cvat-data"]).arg(&world.root);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).start().unwrap();
    // Until its signals are handled, SIGHUP would end it.
    wait_until("the pass has begun", || slow.sent.load(Ordering::SeqCst) > 0);
    wait_until("all exports are removed", || {
        send(&child, Signal::HUP);
        std::thread::sleep(Duration::from_millis(5));
        count(world.path("cache/export")) == 0
    });
    send(&child, Signal::TERM);
    let run = Run::from(child.wait_with_output().unwrap());
    assert!(!run.stdout.contains("left alone"), "{}", run.stdout);
}

/// A signal that is handled interrupts whatever the process waits for.
#[test]
fn a_call_on_the_socket_that_a_signal_interrupts_is_made_again() {
    let Some(redis) = Redis::start(&[]) else { return };
    if !has_strace() {
        return;
    }
    for calls in ["poll,ppoll", "recvfrom", "sendto"] {
        let world = World::new();
        exports(&world, 20);
        let inner = command(&world, &redis.url(), &["--jobs", "1"]);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e"]);
        // Each second one.
        command.arg(format!("inject={calls}:error=EINTR:when=1+2"));
        command.arg(inner.get_program()).args(inner.get_args()).env_clear();
        let run = Run::from(command.finish().unwrap());
        assert_counts(&run.exits(0).json(), "export", &[("removed", 20)]);
        assert!(redis.keys().is_empty(), "{calls}");
    }
}

#[test]
fn slow_answers_cost_a_round_trip_for_many_exports_and_not_for_each() {
    let Some(redis) = Redis::start(&[]) else { return };
    let slow = Way::slow(&redis, Duration::from_millis(120));
    let world = World::in_dir(std::path::Path::new("/dev/shm"));
    exports(&world, 500);
    let run = Run::of(command(&world, &slow.url, &["--jobs", "1"]));
    assert_counts(&run.exits(0).json(), "export", &[("removed", 500)]);
    // To log in, for the clock, the locks and their release; and once more for each tenth of a second that the
    // removals take, which a slow machine has more of.
    let sent = slow.sent.load(Ordering::SeqCst);
    assert!(sent < 250, "{sent}");
    assert!(redis.keys().is_empty());
}

#[test]
fn entries_whose_lease_runs_out_before_their_turn_are_locked_again_and_go() {
    if !crate::company::has_tool("strace", "a lease that runs out") {
        return;
    }
    let Some(redis) = Redis::start(&[]) else { return };
    let world = World::in_dir(std::path::Path::new("/dev/shm"));
    exports(&world, 300);
    // Together the removals take twice as long as a lock lasts.
    let args = ["--jobs", "1", "--lock-ttl", "2s", "--lock-wait", "0"];
    let inner = command(&world, &redis.url(), &args);
    let log = crate::company::log_beside(&world);
    let mut slowed = crate::company::slowed(&inner, Duration::from_millis(15), &log);
    let report = Run::from(slowed.start().unwrap().wait_with_output().unwrap());
    let counts = [("removed", 300), ("skipped", 0)];
    assert_counts(&report.exits(0).json(), "export", &counts);
    assert!(redis.keys().is_empty());
}

#[test]
fn locks_whose_release_was_executed_before_the_connection_was_lost_have_not_expired() {
    let Some(redis) = Redis::start(&[]) else { return };
    let cut = Way::cut_at_the_first_release(&redis);
    let world = World::new();
    exports(&world, 900);
    let other = key(&export(&world, 901));
    redis.cli(&["SET", &other, "theirs", "PX", "3600000"]);
    let run = Run::of(command(&world, &cut.url, &["--jobs", "1", "--lock-wait", "200ms"]));
    let report = run.exits(0).json();
    assert_counts(&report, "export", &[("removed", 900), ("skipped_by.locked", 1)]);
    assert_eq!(zone(&report, "export")["notes"].to_string(), "[]");
    assert_eq!(redis.keys(), [other]);
}

//! `sweeper serve`: signals, settings, systemd, and one sweeper at a time. The schedule itself is tested
//! beside its code, with clocks of its own.

mod exclusive;
mod guards;
mod health;
mod http;
mod logs;
pub mod metrics;
mod metrics_file;
mod new_volume;
mod page;
mod turns;
mod waiting;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::start::{Start, written};
use crate::wait::{AT_ONCE, LIMIT, wait_until};
use crate::world::{DAY, HOUR, Run, World, export_name, sweeper, zone};

/// A running service.
pub struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.start().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stdout, stderr, said: String::new() }
    }

    /// A service on a data root.
    pub fn on(world: &World, args: &[&str]) -> Self {
        Self::start(serve(world, args))
    }

    /// Reads stderr up to a line with `word` in it.
    #[track_caller]
    pub fn says(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "{word}:\n{}", self.said);
            self.said += &line;
            if line.contains(word) {
                return line;
            }
        }
    }

    /// The next line of its stdout.
    fn prints(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stdout.read_line(&mut line).unwrap() > 0, "it has ended");
        line
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; how long that took.
    fn ends(mut self) -> (Run, Duration) {
        let start = Instant::now();
        let mut rest = String::new();
        let stdout = std::io::read_to_string(&mut self.stdout).unwrap();
        self.stderr.read_to_string(&mut rest).unwrap();
        let code = self.child.wait().unwrap().code();
        let took = start.elapsed();
        (Run { code, stdout, stderr: std::mem::take(&mut self.said) + &rest }, took)
    }

    /// Stops it, whether it is idle or in the middle of a pass.
    #[track_caller]
    fn stop_any_time(self) -> Run {
        let (run, took) = self.stop();
        assert!([Some(0), Some(3)].contains(&run.code), "{}", run.stderr);
        assert!(took < AT_ONCE, "{took:?}");
        run
    }

    /// Stops it with SIGTERM.
    fn stop(self) -> (Run, Duration) {
        self.signal(Signal::TERM);
        self.ends()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(&[&["serve"], args].concat());
    command.env("TZ", format!("Etc/GMT{:+}", *HOURS_BEHIND));
    command
}

/// How far behind UTC a zone is in which it was after five in the morning when the tests began: hours before the next
/// moment of any schedule that the program has and these tests do not set.
static HOURS_BEHIND: LazyLock<i64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let hours = i64::try_from(now / 3600 % 24).unwrap() - 5;
    if hours > 12 { hours - 24 } else { hours }
});

pub fn export(world: &World, number: u32, age: i64) {
    world.file(Path::new("cache/export").join(export_name(number)), age);
}

/// The reports that a service printed with `--format jsonl`.
fn reports(run: &Run) -> Vec<Value> {
    let lines = run.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get("schema").is_some()).collect()
}

/// Waits until a pass has swept the temporary files, which it does after the exports.
#[track_caller]
fn wait_for_a_pass(world: &World) {
    world.file("tmp/removed-by-the-next-pass", 20 * DAY);
    wait_until("a pass", || !world.has("tmp/removed-by-the-next-pass"));
}

#[test]
fn an_idle_service_sweeps_nothing_and_ends_at_once_with_0() {
    let world = World::new();
    export(&world, 1, 2 * DAY);
    let mut service = Serving::on(&world, &[]);
    let line = service.says("serving");
    assert!(line.contains("next pass: export at ") && line.contains("tmp at "), "{line}");
    // At half past six in the evening, and in the time zone of the service.
    assert!(line.contains("T18:30:00"), "{line}");
    let (run, took) = service.stop();
    assert!(run.exits(0).stdout.is_empty(), "{}", run.stdout);
    assert!(took < AT_ONCE, "{took:?}");
    assert!(world.path("cache/export").join(export_name(1)).exists());
}

#[test]
fn passes_are_repeated_and_reported_like_those_of_run() {
    let world = World::new();
    export(&world, 1, 2 * DAY);
    world.file("tmp/old", 20 * DAY);
    world.file("tmp/young", HOUR);
    let mut service = Serving::on(&world, &["--every", "1s", "--at-start", "--format", "jsonl"]);
    service.says("serving");
    wait_until("the first pass", || !world.has("tmp/old"));
    export(&world, 2, 2 * DAY);
    wait_until("a later pass", || !world.path("cache/export").join(export_name(2)).exists());
    let run = service.stop_any_time();
    let all = reports(&run);
    assert!(all.len() >= 2, "{}", run.stdout);
    assert_eq!((&all[0]["command"], &all[0]["exit"]), (&"run".into(), &0.into()));
    assert_eq!(zone(&all[0], "export")["removed"], 1);
    assert_eq!(zone(&all[0], "tmp")["removed"], 1);
    let removed: u64 = all.iter().map(|all| all["totals"]["removed"].as_u64().unwrap()).sum();
    assert_eq!(removed, 3);
}

#[test]
fn sigterm_in_the_middle_of_a_pass_prints_the_report_and_exits_3_at_once() {
    let world = World::new();
    for number in 0..20_000 {
        written(|| std::fs::write(world.path(format!("tmp/{number}")), "")).unwrap();
    }
    let retention = ["--retention", "0s", "--now", "2100-01-01T00:00:00Z", "--zones", "tmp"];
    let mut command = sweeper(&["serve", "--at-start", "--jobs", "1", "--format", "json"]);
    command
        .args(["--max-share", "100%", "--max-rate", "200/s", "--data"])
        .arg(&world.root)
        .args(retention);
    command.env("TZ", "Etc/UTC");
    let mut service = Serving::start(command);
    service.says("serving");
    let left = || std::fs::read_dir(world.path("tmp")).unwrap().count();
    wait_until("removals", || left() < 19_900);
    let (run, took) = service.stop();
    assert!(took < AT_ONCE, "{took:?}");
    let report = run.exits(3).json();
    assert_eq!((&report["stopped"], &report["exit"]), (&"signal".into(), &3.into()));
    let removed = usize::try_from(report["totals"]["removed"].as_u64().unwrap()).unwrap();
    assert_eq!(removed + left(), 20_000, "each removal was reported");
    assert!(left() > 0, "it was stopped before its end");
    // No lock is left behind.
    let mut again = sweeper(&["run", "--data"]);
    again.arg(&world.root).args(retention);
    Run::of(again).exits(0);
    assert_eq!(left(), 0);
}

#[test]
fn sighup_reloads_the_settings_and_refuses_bad_ones() {
    let world = World::new();
    let file = world.file_of("settings.toml", 0, b"ttl = '5d'\n");
    export(&world, 1, 2 * DAY);
    let args = ["--config", file.to_str().unwrap(), "--every", "1s", "--format", "jsonl"];
    let mut service = Serving::on(&world, &args);
    service.says("serving");
    wait_for_a_pass(&world);
    let export_1 = world.path("cache/export").join(export_name(1));
    assert!(export_1.exists(), "kept for five days");

    for (bad, word) in [
        ("ttl = 'soon'\n", "soon"),
        ("tttl = '1h'\n", "there is no setting"),
        ("schedule = 'export=0 0 30 2 *'\n", "no date ever matches it"),
        ("listen = '9'\n", "restart"),
        ("audit_log = '/nowhere/audit.log'\n", "make its directory first"),
    ] {
        std::fs::write(&file, bad).unwrap();
        service.signal(Signal::HUP);
        let line = service.says("settings not reloaded, so the old ones stay in effect");
        assert!(line.contains(word), "{line}");
    }
    wait_for_a_pass(&world);
    assert!(export_1.exists(), "still kept");

    std::fs::write(&file, "ttl = '1d'\n").unwrap();
    service.signal(Signal::HUP);
    service.says("settings reloaded");
    wait_until("the new settings", || !export_1.exists());
    service.stop_any_time();
}

#[test]
fn a_service_that_cannot_start_says_why_and_exits_2() {
    let world = World::new();
    let refused = |args: &[&str], tz: &str| {
        let mut command = serve(&world, args);
        command.env("TZ", tz);
        Run::of(command).exits(2).stderr.clone()
    };
    for (args, word) in [
        (&["--schedule", "export=x"][..], "schedule"),
        (&["--every", "0"], "every"),
        (&["--listen", "x"], "listen"),
        (&["--listen", "192.0.2.1:1"], "cannot listen on 192.0.2.1:1"),
        (&["--ttl", "soon"], "ttl"),
    ] {
        assert!(refused(args, "UTC").contains(word), "{args:?}: {}", refused(args, "UTC"));
    }
    assert!(refused(&[], "Nowhere/Land").contains("environment TZ"));
    Run::of(sweeper(&["serve", "--data", "/nowhere"])).exits(2);
}

#[test]
fn a_data_root_that_disappears_does_not_end_the_service() {
    let world = World::new();
    let mut service = Serving::on(&world, &["--every", "1s", "--format", "jsonl"]);
    service.says("serving");
    let away = world.root.with_extension("away");
    std::fs::rename(&world.root, &away).unwrap();
    service.says("the pass did not start");
    std::fs::rename(&away, &world.root).unwrap();
    export(&world, 1, 2 * DAY);
    let export_1 = world.path("cache/export").join(export_name(1));
    wait_until("the next pass", || !export_1.exists());
    service.stop_any_time();
}

/// Datagrams up to one that has `word` in it.
#[track_caller]
fn receives(socket: &UnixDatagram, word: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{word}: {error}"));
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(text.ends_with('\n') && text.lines().all(|line| line.contains('=')), "{text:?}");
        if text.contains(word) {
            return text.to_owned();
        }
    }
}

#[test]
fn systemd_is_told_ready_reloading_alive_and_stopping() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let world = World::new();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("notify");
    let name = format!("sweeper-test-{}", std::process::id());
    let sockets = [
        (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            format!("@{name}"),
        ),
    ];
    for (socket, name) in sockets {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = serve(&world, &["--schedule", "export=0 0 1 1 *"]);
        command.env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "2000000");
        let mut service = Serving::start(command);
        assert!(receives(&socket, "READY=1").contains("STATUS=next pass: export at "));
        let start = Instant::now();
        for _ in 0..5 {
            receives(&socket, "WATCHDOG=1");
        }
        assert!(start.elapsed() < Duration::from_secs(5 * 2), "once per limit at least");
        service.signal(Signal::HUP);
        let text = receives(&socket, "RELOADING=1");
        assert!(text.lines().any(|line| {
            line.strip_prefix("MONOTONIC_USEC=").is_some_and(|time| time.parse::<u64>().is_ok())
        }));
        receives(&socket, "READY=1");
        service.says("settings reloaded");
        service.signal(Signal::TERM);
        receives(&socket, "STOPPING=1");
        service.ends().0.exits(0);
    }
}

#[test]
fn a_socket_that_does_not_exist_is_a_warning_and_the_service_runs() {
    let world = World::new();
    let mut command = serve(&world, &[]);
    command.env("NOTIFY_SOCKET", "/nowhere/at/all").env("WATCHDOG_USEC", "400000");
    let mut service = Serving::start(command);
    service.says("NOTIFY_SOCKET");
    service.says("serving");
    service.stop().0.exits(0);
}

#[test]
fn the_watchdog_is_fed_during_a_long_pass() {
    let world = World::new();
    // A locked entry keeps the pass waiting.
    let path = world.file(Path::new("cache/export").join(export_name(1)), 2 * DAY);
    let held = std::fs::File::open(&path).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let name = scratch.path().join("notify");
    let socket = UnixDatagram::bind(&name).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = serve(&world, &["--at-start", "--lock-wait", "10m"]);
    command.env("NOTIFY_SOCKET", &name).env("WATCHDOG_USEC", "400000");
    let mut service = Serving::start(command);
    service.says("serving");
    receives(&socket, "STATUS=sweeping export, tmp");
    for _ in 0..5 {
        receives(&socket, "WATCHDOG=1");
    }
    let (run, took) = service.stop();
    assert!(run.exits(3).stdout.contains("export"), "{}", run.stdout);
    assert!(took < AT_ONCE, "{took:?}");
}

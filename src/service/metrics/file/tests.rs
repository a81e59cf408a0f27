//! What a file says after several runs, and what is refused and left as it is.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::channel;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;
use crate::rules::ZoneName;

/// A directory for metrics files.
struct Collector(TempDir);

impl Collector {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Everything that is there.
    fn names(&self) -> Vec<OsString> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }
}

static RUNS: AtomicBool = AtomicBool::new(false);
static ENDS: AtomicBool = AtomicBool::new(true);

/// A file that is waited for, however slow the machine is.
fn file(path: &Path) -> MetricsFile<'_> {
    MetricsFile { path, lock_wait: Duration::from_secs(3600), stop: &RUNS }
}

/// Adds a run over the zone `export` that removed two entries and ended at `end`.
fn add(path: &Path, end: f64) -> Result<(), FileError> {
    let metrics = Metrics::new(&[ZoneName::new("export")]).unwrap();
    file(path).add(&metrics, |metrics| {
        metrics.removed.with_label_values(&["export"]).inc_by(2);
        metrics.kept.with_label_values(&["export", "fresh"]).inc_by(3);
        for gauge in [&metrics.end, &metrics.success, &metrics.duration] {
            gauge.with_label_values(&["export"]).set(end);
        }
    })
}

#[track_caller]
fn assert_lines(path: &Path, lines: &[&str]) {
    let text = std::fs::read_to_string(path).unwrap();
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line}\n{text}");
    }
}

#[test]
fn each_run_adds_its_counts_and_sets_the_times_of_its_zones_and_no_others() {
    let collector = Collector::new();
    let path = collector.path("sweeper.prom");
    let other = Metrics::new(&[ZoneName::new("tmp")]).unwrap();
    let count = |metrics: &Metrics| metrics.end.with_label_values(&["tmp"]).set(1.5);
    file(&path).add(&other, count).unwrap();
    for run in 1..=3_u32 {
        add(&path, f64::from(run) * 100.0).unwrap();
        assert_lines(
            &path,
            &[
                &format!("sweeper_removed_total{{zone=\"export\"}} {}", 2 * run),
                &format!("sweeper_kept_total{{reason=\"fresh\",zone=\"export\"}} {}", 3 * run),
                &format!("sweeper_last_end_timestamp_seconds{{zone=\"export\"}} {}", 100 * run),
                &format!("sweeper_last_success_timestamp_seconds{{zone=\"export\"}} {}", 100 * run),
                &format!("sweeper_pass_duration_seconds{{zone=\"export\"}} {}", 100 * run),
                "sweeper_last_end_timestamp_seconds{zone=\"tmp\"} 1.5",
            ],
        );
    }
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(collector.names(), ["sweeper.prom"]);
}

#[test]
fn runs_that_end_together_lose_no_counts() {
    let collector = Collector::new();
    let path = collector.path("sweeper.prom");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let runs = || {
                for _ in 0..10 {
                    add(&path, 1.0).unwrap();
                }
            };
            std::thread::Builder::new().spawn_scoped(scope, runs).unwrap();
        }
    });
    assert_lines(&path, &["sweeper_removed_total{zone=\"export\"} 160"]);
    assert_eq!(collector.names(), ["sweeper.prom"]);
}

/// Refused at once and later, and still what it was.
#[track_caller]
fn assert_refused(path: &Path, word: &str) {
    let before = path.symlink_metadata().unwrap();
    for error in [MetricsFile::at(path, &RUNS).unwrap_err(), add(path, 1.0).unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains(word) && text.contains("name a file that"), "{path:?}: {text}");
    }
    let after = path.symlink_metadata().unwrap();
    let identity = |it: &std::fs::Metadata| (it.dev(), it.ino(), it.len(), it.mode(), it.mtime());
    assert_eq!(identity(&before), identity(&after), "{path:?}");
}

#[test]
fn what_is_no_file_of_ours_is_refused_and_stays() {
    let collector = Collector::new();
    let path = |name| collector.path(name);
    std::fs::write(path("other.prom"), "# HELP node_load1 1m load average.\n").unwrap();
    assert_refused(&path("other.prom"), "was not written by `sweeper`");
    std::fs::write(path("notes"), "keep me").unwrap();
    assert_refused(&path("notes"), "was not written by `sweeper`");
    std::fs::write(path("binary"), b"# HELP sweeper_\xff").unwrap();
    assert_refused(&path("binary"), "was not written by `sweeper`");
    std::fs::create_dir(path("dir")).unwrap();
    assert_refused(&path("dir"), "is a directory");
    add(&path("target.prom"), 1.0).unwrap();
    symlink("target.prom", path("link.prom")).unwrap();
    assert_refused(&path("link.prom"), "is a link");
    symlink("nowhere", path("broken")).unwrap();
    assert_refused(&path("broken"), "is a link");
    mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_refused(&path("pipe"), "is a named pipe");
    let _socket = UnixListener::bind(path("socket")).unwrap();
    assert_refused(&path("socket"), "is a socket");
    assert_lines(&path("target.prom"), &["sweeper_removed_total{zone=\"export\"} 2"]);
}

#[test]
fn an_empty_file_is_filled_and_lines_of_others_in_ours_are_dropped() {
    let collector = Collector::new();
    let path = collector.path("sweeper.prom");
    std::fs::write(&path, "").unwrap();
    MetricsFile::at(&path, &RUNS).unwrap();
    add(&path, 1.0).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(FIRST_LINE), "{text}");
    let strange =
        "nonsense{\nsweeper_seen_total{zone=\"export} x\nother_total{zone=\"export\"} 7\n";
    std::fs::write(&path, text + strange).unwrap();
    add(&path, 2.0).unwrap();
    assert_lines(&path, &["sweeper_removed_total{zone=\"export\"} 4"]);
    assert!(!std::fs::read_to_string(&path).unwrap().contains("other_total"));
}

#[test]
fn what_a_killed_run_left_is_gone_after_the_next() {
    let collector = Collector::new();
    let path = collector.path("sweeper.prom");
    add(&path, 1.0).unwrap();
    let target = collector.path("target");
    std::fs::write(&target, "keep me").unwrap();
    // Half a file, and a hard link to something else.
    let left = collector.path(".sweeper.prom.sweeper-new");
    std::fs::write(&left, "# HELP sweeper_bu").unwrap();
    add(&path, 2.0).unwrap();
    std::fs::hard_link(&target, &left).unwrap();
    add(&path, 3.0).unwrap();
    assert_lines(&path, &["sweeper_removed_total{zone=\"export\"} 6"]);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "keep me");
    assert_eq!(collector.names(), ["sweeper.prom", "target"]);
}

/// A file on a broken disk.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Other.into())
    }
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_counts() {
    let collector = Collector::new();
    let path = collector.path("sweeper.prom");
    add(&path, 1.0).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = file(&path).read(Broken).unwrap_err().to_string();
    assert!(error.contains("cannot read the metrics file"), "{error}");
    // What cannot be replaced stays, too.
    std::fs::create_dir(collector.path(".sweeper.prom.sweeper-new")).unwrap();
    let error = add(&path, 2.0).unwrap_err().to_string();
    assert!(error.contains("cannot write the metrics file"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_run_waits_for_another_and_adds_to_what_that_one_wrote() {
    let collector = Collector::new();
    let path = collector.path("sweeper.prom");
    add(&path, 1.0).unwrap();
    let (ready, is_ready) = channel();
    std::thread::scope(|scope| {
        let path = &path;
        let first = move || {
            let metrics = Metrics::new(&[ZoneName::new("export")]).unwrap();
            let count = |metrics: &Metrics| {
                ready.send(()).unwrap();
                metrics.removed.with_label_values(&["export"]).inc_by(5);
            };
            file(path).add(&metrics, count).unwrap();
        };
        let first = std::thread::Builder::new().spawn_scoped(scope, first).unwrap();
        is_ready.recv().unwrap();
        add(path, 2.0).unwrap();
        first.join().unwrap();
    });
    assert_lines(&path, &["sweeper_removed_total{zone=\"export\"} 9"]);
}

#[test]
fn a_lock_that_is_held_for_ever_is_an_error() {
    let collector = Collector::new();
    let path = collector.path("sweeper.prom");
    add(&path, 1.0).unwrap();
    let held = File::open(&path).unwrap();
    flock(&held, FlockOperation::LockShared).unwrap();
    let impatient = MetricsFile { lock_wait: Duration::ZERO, ..file(&path) };
    // A run that is told to end does not wait for an hour either.
    let ends = MetricsFile { stop: &ENDS, ..file(&path) };
    for file in [impatient, ends] {
        let metrics = Metrics::new(&[]).unwrap();
        let error = file.add(&metrics, |_| unreachable!("it is locked")).unwrap_err().to_string();
        assert!(error.contains("another process holds the lock"), "{error}");
    }
    assert_lines(&path, &["sweeper_removed_total{zone=\"export\"} 2"]);
}

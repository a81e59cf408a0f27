//! Ends a process that was told to end while a call on a file system does not return.
//!
//! This module must not end one that ends by itself. An unreachable server can keep a thread in a call, and no signal
//! but SIGKILL ends such a call. What the pass has done until then is known and reported.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::engine::Live;
use crate::fs::lease;
use crate::os::clock;
use crate::protocol::{ExitCode, RunInfo, RunMode, StopReason};
use crate::report::canvas::Canvas;
use crate::report::{self, Format};
use crate::rules::{Shard, Zone};

/// How long a pass may take to end. An engine that stops a container kills it after 10 s.
const GRACE: Duration = Duration::from_secs(5);

/// How long its report may take then. Its reader may have stopped reading, too.
const REPORT_GRACE: Duration = Duration::from_secs(1);

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(200);

/// Watches a pass until it is dropped.
pub(super) struct Watchdog {
    pass: Arc<Watched>,
    _until: Sender<()>,
}

/// What is known about the pass, for its report.
pub(super) struct Watched {
    pub(super) command: &'static str,
    pub(super) mode: RunMode,
    pub(super) shard: Option<Shard>,
    pub(super) format: Format,
    pub(super) canvas: Canvas,
    pub(super) zones: Vec<Arc<Zone>>,
    pub(super) data_root: OnceLock<PathBuf>,
    pub(super) live: Live,
    /// The exit code of a pass that has ended, and whose own report is being printed.
    pub(super) ended: OnceLock<ExitCode>,
}

impl Watchdog {
    /// Watches a pass that is told to end by one of two flags: that of a signal, and that of a deadline. Where
    /// no thread can be started, nothing is watched.
    pub(super) fn start(pass: Watched, [signal, deadline]: [Arc<AtomicBool>; 2]) -> Self {
        let (until, ended) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel::<()>();
        let pass = Arc::new(pass);
        let (watched, start) = (Arc::clone(&pass), Instant::now());
        let watch = move || {
            lease::forget_descriptors();
            drop(ready);
            let mut told_to_end = None;
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let reason = if signal.load(Ordering::Relaxed) {
                    StopReason::Signal
                } else if deadline.load(Ordering::Relaxed) && !watched.has_ended() {
                    StopReason::Deadline
                } else {
                    continue;
                };
                if told_to_end.get_or_insert_with(Instant::now).elapsed() >= GRACE {
                    end(&watched, reason, start.elapsed());
                }
            }
        };
        // Without it, only SIGKILL ends a pass whose server is unreachable.
        let watchdog = std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch);
        if watchdog.is_ok() {
            // No file is asked about before.
            let _ = is_ready.recv();
        }
        Self { pass, _until: until }
    }

    /// The pass.
    pub(super) fn pass(&self) -> &Watched {
        &self.pass
    }
}

impl Watched {
    /// To be called when the pass has ended, before its report is printed.
    pub(super) fn on_end(&self, code: ExitCode) {
        let _ = self.ended.set(code);
    }

    fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Prints the report of what was done. `known` gets the exit code before that.
    fn report(&self, reason: StopReason, elapsed: Duration, known: &Sender<ExitCode>) {
        let why = "5 s after the pass was told to end, a call on a file system has still not \
                   returned: its server may be unreachable. Entries in progress are not counted; the \
                   next run completes unfinished removals";
        let tell = |code: ExitCode| {
            let _ = known.send(code);
        };
        match (self.data_root.get(), self.ended.get()) {
            (None, _) => {
                tell(ExitCode::Stopped);
                tracing::error!("stopped before the pass began: {why}");
            }
            (_, Some(code)) => {
                tell(ExitCode::Stopped.max(*code));
                tracing::error!(
                    "5 s after the signal, the report has still not been read to its end: it is cut short"
                );
            }
            (Some(data_root), None) => {
                let summary = self.live.summary(data_root, &self.zones, Some(reason), why);
                let code = ExitCode::of(&summary);
                tell(code);
                tracing::error!("{why}");
                let (now, out) = (clock::now(), &mut io::stdout());
                let (command, mode, shard) = (self.command, self.mode, self.shard);
                let info = RunInfo { command, mode, now, data_root, shard };
                // An error here has no one to be told to.
                let how = (self.format, self.canvas);
                let _ = report::write(out, how, &info, &summary, elapsed, code);
                let _ = out.flush();
            }
        }
    }
}

/// Prints the report of what was done, and ends the process.
fn end(pass: &Arc<Watched>, reason: StopReason, elapsed: Duration) -> ! {
    let (known, code) = mpsc::channel();
    let (printed, is_printed) = mpsc::channel::<()>();
    let pass = Arc::clone(pass);
    let print = move || {
        pass.report(reason, elapsed, &known);
        drop(printed);
    };
    // A worker may wait for the reader of the report, with stdout locked.
    let thread = std::thread::Builder::new().name("report".to_owned()).spawn(print);
    if thread.is_ok() {
        let _ = is_printed.recv_timeout(REPORT_GRACE);
    }
    let code = code.try_recv().unwrap_or(ExitCode::Stopped);
    #[expect(clippy::disallowed_methods, reason = "main waits for the call that does not return")]
    std::process::exit(code as i32)
}

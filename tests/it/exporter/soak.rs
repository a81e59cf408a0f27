//! Exporters that publish, request again and read under pottery's lock while passes run without pause.
//!
//! The exporters do what matters as CVAT does it: existence check and `utime` under the lock, the move into
//! place under the lock, reads under the lock. Each remembers when it last used its file. A file that is gone
//! although it was used within its TTL is lost.

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use super::server::{Redis, start_python};
use crate::company::has_tool;
use crate::world::{Run, World, export_name};

/// What each exporter does until the file `STOP` exists. Its files expire after a second, so the passes and the
/// exporters always work on the same files. The clock is read before a use and after a look, so that a slow
/// machine makes no loss of what had expired.
const EXPORTER: &str = r"
import shutil, tempfile
os.chdir(os.path.dirname(path))
names = [os.path.join(path, n) for n in NAMES.split()]
TTL = 1.0
lost = 0; rounds = 0
def lose(what):
    global lost
    lost += 1
    with open(LOST, 'a') as f: f.write(what + '\n')
while rounds < 5 or not os.path.exists(STOP):
    name = random.choice(names)
    held = pottery.Redlock(key='export_lock:' + name, masters={server}, auto_release_time=30)
    if not held.acquire(blocking=True, timeout=50): continue
    used = None
    try:
        what = random.random()
        if os.path.exists(name) and what < 0.5:
            used = time.time()
            os.utime(name)                       # requested again: it is still offered
        elif what < 0.9:
            with tempfile.NamedTemporaryFile(dir=os.path.join(path, '..', '..', 'tmp'), delete=False) as f: f.write(b'new')
            shutil.move(f.name, name)            # published
            used = time.time()
            os.utime(name)
    finally:
        try: held.release()
        except pottery.ReleaseUnlockedLock: lose('lock-gone:' + name)
    if used is not None:
        # It must stay for its whole TTL. This looks without a lock, as nginx does.
        time.sleep(random.random() * 0.6)
        is_gone = not os.path.exists(name)
        if is_gone and time.time() - used < TTL * 0.9: lose(name)
    rounds += 1
print(rounds)
";

/// How far a soak is.
struct Soak {
    elapsed: Duration,
    passes: u32,
    removed: u64,
    /// What the exporters have lost.
    lost: Vec<String>,
}

fn redis() -> Option<Redis> {
    has_tool("strace", "exporters and passes side by side").then(|| Redis::start(&[]))?
}

#[test]
fn no_fresh_export_is_lost_to_passes_without_pause() {
    let Some(redis) = redis() else { return };
    // `SWEEPER_TESTS_SOAK_SECONDS=60` is the long one.
    let seconds = std::env::var("SWEEPER_TESTS_SOAK_SECONDS");
    let least = Duration::from_secs(seconds.map_or(8, |text| text.parse().unwrap()));
    let is_enough = |soak: &Soak| soak.elapsed >= least && soak.passes > 3 && soak.removed > 0;
    let soak = soak(&redis, &["--redis", &redis.url()], is_enough);
    assert_eq!(soak.lost, Vec::<String>::new());
}

#[test]
fn without_the_lock_the_soak_loses_exports() {
    let Some(redis) = redis() else { return };
    // So the other test would notice a loss. Chance decides when, so there is much time.
    let is_enough = |soak: &Soak| !soak.lost.is_empty() || soak.elapsed > Duration::from_secs(240);
    let soak = soak(&redis, &["--lock", "none"], is_enough);
    assert!(!soak.lost.is_empty(), "nothing was lost without the lock: the soak sees nothing");
}

/// Exporters, and passes until it is enough.
fn soak(redis: &Redis, locks: &[&str], is_enough: impl Fn(&Soak) -> bool) -> Soak {
    let world = World::new();
    let names: Vec<String> = (0..12).map(export_name).collect();
    let beside = |name: &str| world.root.parent().unwrap().join(name);
    let (stop, lost) = (beside("stop"), beside("lost"));
    let head = format!("NAMES = {:?}\nSTOP = {stop:?}\nLOST = {lost:?}\n", names.join(" "));
    let script = head + EXPORTER;
    let exporters: Vec<_> =
        (0..4).map(|_| start_python(&script, redis, &world.path("cache/export"))).collect();
    let lines = || {
        let text = std::fs::read_to_string(&lost).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let start = Instant::now();
    let mut soak = Soak { elapsed: Duration::ZERO, passes: 0, removed: 0, lost: Vec::new() };
    while !is_enough(&soak) {
        soak.removed += pass(&world, locks);
        soak.passes += 1;
        (soak.elapsed, soak.lost) = (start.elapsed(), lines());
        assert!(soak.elapsed < Duration::from_secs(600), "{} passes", soak.passes);
    }
    std::fs::write(&stop, "").unwrap();
    let mut rounds = 0;
    for mut exporter in exporters {
        let (mut said, mut error) = (String::new(), String::new());
        exporter.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        exporter.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(exporter.wait().unwrap().success(), "{error}");
        rounds += said.trim().parse::<u64>().unwrap();
    }
    soak.lost = lines();
    assert!(rounds > 10, "{rounds}");
    soak
}

/// One pass; how many exports it removed.
fn pass(world: &World, locks: &[&str]) -> u64 {
    // Between the last look and the unlink are microseconds, too few to hit. With 150 ms there, only the
    // lock keeps the exporters out.
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", "trace=unlinkat"]);
    command.args(["-e", "inject=unlinkat:delay_enter=150000", env!("CARGO_BIN_EXE_sweeper")]);
    command.args(["run", "--zones", "export", "--ttl", "1s", "--format", "json"]);
    command.args(["--lock-wait", "100ms", "--in-use", "ignore", "--data"]).arg(&world.root);
    command.args(locks).env("SWEEPER_CVAT_DATA", &world.root);
    let report = Run::of(command);
    report.exits(0).json()["totals"]["removed"].as_u64().unwrap()
}

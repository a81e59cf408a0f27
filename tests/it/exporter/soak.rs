//! Exporters that publish, ask again and read under pottery's lock while passes run without pause.
//!
//! The exporters are CVAT's in all that matters: existence check and `utime` under the lock, the move
//! into place under the lock, reads under the lock. Each notes when it last used its file; a file
//! that is gone although it was used within its TTL is lost.

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use super::server::{Redis, start_python};
use crate::world::{Run, World, export_name};

/// What each exporter does until it is told to end: its files go stale after a second, so the passes
/// and it are always about the same files.
const EXPORTER: &str = r"
import threading, shutil, tempfile
lost = []; rounds = 0
os.chdir(os.path.dirname(path))
end = time.monotonic() + float(os.environ['SOAK_SECONDS'])
names = [os.path.join(path, n) for n in os.environ['SOAK_NAMES'].split()]
TTL = 1.0
while time.monotonic() < end:
    name = random.choice(names)
    held = pottery.Redlock(key='export_lock:' + name, masters={server}, auto_release_time=30)
    if not held.acquire(blocking=True, timeout=50): continue
    try:
        what = random.random()
        if os.path.exists(name) and what < 0.5:
            os.utime(name)                       # asked for again: it is still offered
            used = time.time()
        elif what < 0.9:
            with tempfile.NamedTemporaryFile(dir=os.path.join(path, '..', '..', 'tmp'), delete=False) as f: f.write(b'new')
            shutil.move(f.name, name)            # published
            os.utime(name)
            used = time.time()
        else:
            used = None
    finally:
        try: held.release()
        except pottery.ReleaseUnlockedLock: lost.append('lock-gone:' + name)
    if used is not None:
        # It must be there for its whole TTL; looked at without a lock, as nginx does.
        time.sleep(random.random() * 0.6)
        if time.time() - used < TTL * 0.9 and not os.path.exists(name): lost.append(name)
    rounds += 1
print(rounds, len(lost), *[l.replace(' ', '_') for l in lost[:5]])
";

#[test]
fn no_fresh_export_is_lost_to_passes_without_pause() {
    let Some(redis) = Redis::start(&[]) else { return };
    // `SWEEPER_SOAK_SECONDS=60` is the long one.
    let seconds: u64 =
        std::env::var("SWEEPER_SOAK_SECONDS").map_or(8, |text| text.parse().unwrap());
    assert_eq!(soak(&redis, seconds, &["--redis", &redis.url()]), Vec::<String>::new());
}

#[test]
fn without_the_lock_the_soak_loses_exports() {
    let Some(redis) = Redis::start(&[]) else { return };
    // So it would have noticed. Chance decides when, so it has a few tries.
    let found = (0..8).any(|_| !soak(&redis, 8, &["--lock", "none"]).is_empty());
    assert!(found, "nothing was lost without the lock: the soak is blind");
}

/// Exporters and passes side by side for some seconds; what the exporters lost.
fn soak(redis: &Redis, seconds: u64, locks: &[&str]) -> Vec<String> {
    let world = World::new();
    let names: Vec<String> = (0..12).map(export_name).collect();
    let exporters: Vec<_> = (0..4)
        .map(|_| {
            let body = EXPORTER
                .replace("os.environ['SOAK_SECONDS']", &format!("'{seconds}'"))
                .replace("os.environ['SOAK_NAMES']", &format!("'{}'", names.join(" ")));
            start_python(&body, redis, &world.path("cache/export"))
        })
        .collect();
    let start = Instant::now();
    let (mut passes, mut removed) = (0, 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        // Between the last look and the unlink lie microseconds, too few to be hit. With 150 ms there
        // only the lock keeps the two apart.
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", "trace=unlinkat"]);
        command.args(["-e", "inject=unlinkat:delay_enter=150000", env!("CARGO_BIN_EXE_sweeper")]);
        command.args(["run", "--zones", "export", "--ttl", "1s", "--format", "json"]);
        command.args(["--lock-wait", "100ms", "--in-use", "ignore", "--data"]).arg(&world.root);
        command.args(locks).arg("--cvat-data").arg(&world.root);
        let report = Run::of(command);
        removed += report.exits(0).json()["totals"]["removed"].as_u64().unwrap();
        passes += 1;
    }
    let (mut rounds, mut lost) = (0, Vec::new());
    for mut exporter in exporters {
        let (mut said, mut error) = (String::new(), String::new());
        exporter.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        exporter.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(exporter.wait().unwrap().success(), "{error}");
        let words: Vec<&str> = said.split_whitespace().collect();
        rounds += words[0].parse::<u64>().unwrap();
        lost.extend(words[2..].iter().map(|&word| word.to_owned()));
    }
    assert!(rounds > 10 && passes > 3 && removed > 0, "{rounds} {passes} {removed}");
    lost
}

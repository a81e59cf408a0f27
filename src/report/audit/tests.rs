//! The lines of the audit log, and what happens when it is rotated, deleted or refused.

use std::fs;

use super::*;
use crate::rules::{Bytes, Expiry, FileId, FileKind, Metadata, verdict};

const AT: Moment = Moment::from_unix(1_767_323_045, 5);

fn metadata() -> Metadata {
    Metadata {
        id: FileId { dev: 8 << 32 | 1, ino: 7 },
        atime: AT,
        mtime: Moment::from_unix(1_767_323_000, 0),
        ctime: AT,
        size: Bytes(10),
        allocated: Bytes(4096),
        ..verdict::tests::metadata(FileKind::File, 0)
    }
}

struct Setup {
    scratch: tempfile::TempDir,
    is_rotated: Arc<AtomicBool>,
    log: AuditLog,
}

impl Setup {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let is_rotated = Arc::<AtomicBool>::default();
        let path = scratch.path().join("log");
        let log = AuditLog::open(&path, 0xAB, || AT, Arc::clone(&is_rotated)).unwrap();
        Self { scratch, is_rotated, log }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn write(&self, name: &str) -> Result<(), Failure> {
        let zone = ZoneName::new("z");
        let rule = Rule {
            last_use: LastUse::Mtime,
            expiry: Expiry::After(Ttl::from_secs(60)),
            early: None,
        };
        let (metadata, path) = (metadata(), Path::new("/data/z").join(name));
        let (zone, size) = (&zone, metadata.allocated);
        self.log.write(&[Intent {
            zone,
            path,
            metadata: &metadata,
            rule,
            size,
            now: metadata.ctime,
        }])
    }

    fn lines(&self, name: &str) -> usize {
        fs::read_to_string(self.path(name)).unwrap().lines().count()
    }
}

#[test]
fn a_line_says_what_is_removed_and_by_which_rule() {
    let setup = Setup::new();
    setup.write("a\n\u{202e}b").unwrap();
    setup.log.withdraw(&ZoneName::new("z"), Path::new("/data/z/c"), "in_use");
    let text = fs::read_to_string(setup.path("log")).unwrap();
    let [first, second] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert_eq!(
        first,
        "{\"event\":\"remove\",\"time\":\"2026-01-02T03:04:05.000000005Z\",\"run\":\"00000000000000ab\",\
         \"zone\":\"z\",\"path\":\"/data/z/a\\n\\u202eb\",\"kind\":\"file\",\"device\":2049,\"inode\":7,\
         \"links\":1,\"size\":10,\"allocated_bytes\":4096,\"atime\":\"2026-01-02T03:04:05.000000005Z\",\
         \"mtime\":\"2026-01-02T03:03:20.000000000Z\",\"ctime\":\"2026-01-02T03:04:05.000000005Z\",\
         \"rule\":{\"last_use\":\"mtime\",\"used\":\"2026-01-02T03:03:20.000000000Z\",\"ttl_s\":60}}"
    );
    assert_eq!(
        second,
        "{\"event\":\"not_removed\",\"time\":\"2026-01-02T03:04:05.000000005Z\",\
         \"run\":\"00000000000000ab\",\"zone\":\"z\",\"path\":\"/data/z/c\",\"reason\":\"in_use\"}"
    );
}

#[test]
fn a_device_has_the_number_that_stat_shows() {
    use std::os::unix::fs::MetadataExt;
    for path in ["/", "/proc", "/dev/null", "/sys"] {
        let seen = fs::metadata(path).unwrap().dev();
        let (major, minor) = (rustix::fs::major(seen), rustix::fs::minor(seen));
        assert_eq!(json::device_number(u64::from(major) << 32 | u64::from(minor)), seen, "{path}");
    }
    let largest = rustix::fs::makedev(0xABC_DEF01, 0xFEDC_BA98);
    assert_eq!(json::device_number(0xABC_DEF01 << 32 | 0xFEDC_BA98), largest);
}

#[test]
fn a_log_that_was_rotated_or_deleted_is_opened_anew() {
    let setup = Setup::new();
    setup.write("a").unwrap();
    fs::rename(setup.path("log"), setup.path("log.1")).unwrap();
    setup.write("b").unwrap();
    assert_eq!(setup.lines("log.1"), 2, "until it is told");
    setup.is_rotated.store(true, Ordering::Relaxed);
    setup.write("c").unwrap();
    assert_eq!((setup.lines("log.1"), setup.lines("log")), (2, 1));
    fs::rename(setup.path("log"), setup.path("log.1")).unwrap();
    fs::rename(setup.path("log.1"), setup.path("log.2")).unwrap();
    let unlinked = tempfile::tempdir().unwrap();
    fs::rename(setup.path("log.2"), unlinked.path().join("log")).unwrap();
    drop(unlinked);
    setup.write("d").unwrap();
    assert_eq!(setup.lines("log"), 1);
}

#[test]
fn after_one_line_was_refused_all_are() {
    let setup = Setup::new();
    fs::create_dir(setup.path("dir")).unwrap();
    fs::rename(setup.path("log"), setup.path("log.1")).unwrap();
    fs::rename(setup.path("dir"), setup.path("log")).unwrap();
    setup.is_rotated.store(true, Ordering::Relaxed);
    let failure = setup.write("a").unwrap_err();
    let text = failure.to_string();
    assert!(text.starts_with("write the audit log ") && text.contains("regular file"), "{text}");
    assert!(text.contains("make room for the audit log"), "{text}");
    fs::rename(setup.path("log"), setup.path("dir")).unwrap();
    assert!(setup.write("b").is_err(), "what was removed meanwhile would not be in it");
}

#[test]
fn a_file_of_another_program_that_takes_the_place_of_the_log_is_not_written_to() {
    let setup = Setup::new();
    fs::rename(setup.path("log"), setup.path("log.1")).unwrap();
    fs::write(setup.path("log"), "ttl = '1d'\n").unwrap();
    setup.is_rotated.store(true, Ordering::Relaxed);
    let text = setup.write("a").unwrap_err().to_string();
    assert!(text.contains("is not an audit log of sweeper"), "{text}");
    assert_eq!(fs::read_to_string(setup.path("log")).unwrap(), "ttl = '1d'\n");
}

//! What reading and judging a name costs, without a file system: nanoseconds per name, on the real names of
//! `fixtures/names`.
//!
//! `cargo bench --bench judge`

use std::error::Error;
use std::ffi::{CStr, CString};
use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::Criterion;
use criterion::measurement::WallTime;
use regex::bytes::Regex;
use retention_sweeper::cvat::names::{ExportName, class_of};
use retention_sweeper::cvat::zones::{ExportTtls, export};
use retention_sweeper::rules::verdict::evaluate;
use retention_sweeper::rules::{
    Bytes, Entry, Exclude, FileId, FileKind, Metadata, Moment, Ttl, Zone,
};

/// The grammar as one anchored pattern, which is the shortest way to write it.
const PATTERN: &str = r"(?x-u)^(?:
    (?:project|task|job)-[0-9]{1,19}-(?:dataset|annotations)
        -instance[0-9]+\.[0-9]{1,6}-[a-z0-9_-]+\.(?i:zip|tsv)
  | (?:project|task)-[0-9]{1,19}-backup-instance[0-9]+\.[0-9]{1,6}(?:-lightweight)?\.(?i:zip)
  | events-[0-9A-Za-z][0-9A-Za-z_-]*\.(?i:csv)
)$";

type Group<'c> = criterion::BenchmarkGroup<'c, WallTime>;

const NOW: Moment = Moment::from_unix(1_767_323_045, 0);

/// The names in a fixture file: what is before the tab, with `\xNN` read as a byte.
fn names_in(file: &str) -> std::io::Result<Vec<CString>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/names").join(file);
    let text = fs::read_to_string(path)?;
    let names = text.lines().filter(|line| !line.starts_with('#'));
    let names = names.filter_map(|line| line.split('\t').next());
    Ok(names.filter_map(|name| CString::new(unescape(name)).ok()).collect())
}

fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split(r"\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.extend(u8::from_str_radix(digits, 16).ok());
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

/// A file that was last used `age` seconds ago.
fn metadata(age: i64) -> Metadata {
    let used = Moment::from_unix(NOW.unix_secs() - age, 0);
    Metadata {
        kind: FileKind::File,
        id: FileId { dev: 1, ino: 1 },
        is_mount_point: false,
        atime: used,
        mtime: used,
        ctime: used,
        links: 1,
        size: Bytes(0),
        allocated: Bytes(4096),
        newest_inside: None,
    }
}

fn zone() -> Zone {
    let day = Ttl::from_secs(86_400);
    export(&ExportTtls { project: day, task: day, job: day, events: day })
}

/// Whether the file with this name has expired.
fn is_expired(zone: &Zone, exclude: &Exclude, name: &CStr, metadata: Metadata) -> bool {
    let dir = Path::new("cache/export");
    let entry = Entry { zone, directory: &(), dir, name, metadata };
    evaluate(black_box(&entry), exclude, NOW).is_ok()
}

/// Measures one name after another, again and again, so that the time printed is that of one name.
fn each_name(group: &mut Group<'_>, names: &[CString], what: &str, work: impl Fn(&CStr) -> bool) {
    let mut names = names.iter().cycle();
    group.bench_function(what, |b| b.iter(|| names.next().map(|name| work(black_box(name)))));
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().configure_from_args();
    let pattern = Regex::new(PATTERN)?;
    let (zone, exclude) = (zone(), Exclude::default());
    let (fresh, expired) = (metadata(60), metadata(10 * 86_400));
    for file in ["export.txt", "legacy.txt"] {
        let names = names_in(file)?;
        let mut group = criterion.benchmark_group(file);
        let mut each = |what: &str, work: &dyn Fn(&CStr) -> bool| {
            each_name(&mut group, &names, what, work);
        };
        each("class", &|name| class_of(name.to_bytes()).is_some());
        each("parse", &|name| ExportName::parse(name.to_bytes()).is_ok());
        each("regex", &|name| pattern.is_match(name.to_bytes()));
        each("judge, fresh", &|name| is_expired(&zone, &exclude, name, fresh));
        each("judge, expired", &|name| is_expired(&zone, &exclude, name, expired));
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

//! What reading and judging a name costs, without any file system: nanoseconds a name, on the real
//! names of `fixtures/names`. A look at a file costs more than a thousand of them.
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
use retention_sweeper::retention::{
    Bytes, Exclude, ExportName, ExportTtls, Facts, FileId, Kind, Moment, Policy, Sighting, TmpAge,
    Ttl, Zone,
};

/// The grammar as one anchored pattern, which is how it would be written by anybody in a hurry.
const PATTERN: &str = r"(?x-u)^(?:
    (?:project|task|job)-[0-9]{1,19}-(?:dataset|annotations)
        -instance[0-9]+\.[0-9]{1,6}-[a-z0-9_-]+\.(?i:zip|tsv)
  | (?:project|task)-[0-9]{1,19}-backup-instance[0-9]+\.[0-9]{1,6}(?:-lightweight)?\.(?i:zip)
  | events-[0-9A-Za-z][0-9A-Za-z_-]*\.(?i:csv)
)$";

type Group<'c> = criterion::BenchmarkGroup<'c, WallTime>;

const NOW: Moment = Moment::from_unix(1_767_323_045, 0);

/// The names of one fixture file: what stands before the tab, `\xNN` read as a byte.
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

fn facts(age: i64) -> Facts {
    let used = Moment::from_unix(NOW.unix_secs() - age, 0);
    Facts {
        kind: Kind::File,
        id: FileId { dev: 1, ino: 1 },
        mounted: false,
        atime: used,
        mtime: used,
        ctime: used,
        links: 1,
        allocated: Bytes(4096),
        newest_inside: None,
    }
}

fn policy() -> Policy {
    let day = Ttl::from_secs(86_400);
    Policy {
        export: ExportTtls::all(day),
        retention: day,
        tmp_age: TmpAge::Tree,
        older_than: None,
        exclude: Exclude::default(),
    }
}

/// Whether the file with this name goes when it is that old.
fn goes(policy: &Policy, name: &CStr, facts: Facts) -> bool {
    let dir = Path::new("cache/export");
    let sighting = Sighting { zone: Zone::Export, place: &(), dir, name, facts };
    policy.judge(black_box(&sighting), NOW).is_ok()
}

/// Measures one name after the other, round and round, so that the time printed is that of a name.
fn each_name(group: &mut Group<'_>, names: &[CString], what: &str, work: impl Fn(&CStr) -> bool) {
    let mut names = names.iter().cycle();
    group.bench_function(what, |b| b.iter(|| names.next().map(|name| work(black_box(name)))));
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().configure_from_args();
    let pattern = Regex::new(PATTERN)?;
    let policy = policy();
    let (fresh, expired) = (facts(60), facts(10 * 86_400));
    for file in ["export.txt", "legacy.txt"] {
        let names = names_in(file)?;
        let mut group = criterion.benchmark_group(file);
        let mut each = |what: &str, work: &dyn Fn(&CStr) -> bool| {
            each_name(&mut group, &names, what, work);
        };
        each("classify", &|name| ExportName::classify(name.to_bytes()).is_some());
        each("parse", &|name| ExportName::parse(name.to_bytes()).is_ok());
        each("regex", &|name| pattern.is_match(name.to_bytes()));
        each("judge, fresh", &|name| goes(&policy, name, fresh));
        each("judge, expired", &|name| goes(&policy, name, expired));
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

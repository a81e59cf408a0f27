//! What a report says about file systems that are too full.
//!
//! This module must not count: the numbers come from the relief.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::protocol::{InTheWay, Relief, ReliefEnd, RunMode, Skipped};
use crate::rules::{Amount, Bytes, KeptReason, MinAge, Share, Space};
use crate::units::{self, grouped};

/// A relief, for programs.
#[derive(Serialize)]
pub(super) struct Object<'a> {
    state: &'static str,
    mark: Option<String>,
    relieve: Option<String>,
    keep_free_bytes: Option<u64>,
    min_age_s: i64,
    before: Option<SpaceObject>,
    after: Option<SpaceObject>,
    removed: u64,
    freed_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<AmountObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_the_way: Option<WayObject<'a>>,
    message: String,
}

/// How full a file system is.
#[derive(Serialize)]
struct SpaceObject {
    bytes: u64,
    bytes_used: u64,
    bytes_available: u64,
    inodes: u64,
    inodes_used: u64,
}

#[derive(Serialize)]
struct AmountObject {
    bytes: u64,
    inodes: u64,
}

/// What stayed.
#[derive(Serialize)]
struct WayObject<'a> {
    young: u64,
    left: u64,
    linked: u64,
    failed: u64,
    kept_by: BTreeMap<&'static str, u64>,
    skipped_by: BTreeMap<&'static str, u64>,
    zones: BTreeMap<&'a str, &'a str>,
}

/// A relief as an object without its path.
pub(super) fn object(relief: &Relief, mode: RunMode) -> Object<'_> {
    let share = |share: Option<Share>| share.map(|share| share.to_string());
    Object {
        state: relief.end.key(),
        mark: share(relief.pressure.mark),
        relieve: share(relief.pressure.relieve.or(relief.pressure.mark)),
        keep_free_bytes: relief.pressure.keep_free.map(|bytes| bytes.0),
        min_age_s: relief.min_age.ttl().as_secs(),
        before: relief.before.map(space),
        after: relief.after.map(space),
        removed: relief.removed,
        freed_bytes: relief.freed.0,
        missing: if let ReliefEnd::NotFreed(Amount { bytes, inodes }) = relief.end {
            Some(AmountObject { bytes, inodes })
        } else {
            None
        },
        in_the_way: if let ReliefEnd::NothingLeft(way) = &relief.end {
            Some(in_the_way(way, mode))
        } else {
            None
        },
        message: message(relief, mode),
    }
}

const fn space(space: Space) -> SpaceObject {
    let Space { bytes, bytes_used, bytes_available, inodes, inodes_used } = space;
    SpaceObject { bytes, bytes_used, bytes_available, inodes, inodes_used }
}

fn in_the_way(way: &InTheWay, mode: RunMode) -> WayObject<'_> {
    WayObject {
        young: way.young,
        left: left(way, mode),
        linked: way.linked,
        failed: way.failed,
        kept_by: kept(way).collect(),
        skipped_by: skipped(way).collect(),
        zones: way.zones.iter().map(|(zone, why)| (zone.as_str(), why.as_str())).collect(),
    }
}

fn kept(way: &InTheWay) -> impl Iterator<Item = (&'static str, u64)> {
    let counts = KeptReason::ALL.map(KeptReason::key).into_iter().zip(way.kept_by);
    counts.filter(|(_, count)| *count > 0)
}

fn skipped(way: &InTheWay) -> impl Iterator<Item = (&'static str, u64)> {
    let counts = Skipped::ALL.map(Skipped::key).into_iter().zip(way.skipped_by);
    counts.filter(|(_, count)| *count > 0)
}

/// What happened, in words.
pub(super) fn message(relief: &Relief, mode: RunMode) -> String {
    let is_dry = mode == RunMode::DryRun;
    let has_free = relief.pressure.keep_free.is_some();
    let how_full = |space: Option<Space>| space.map(|it| in_use(&it, relief.is_quota, has_free));
    let was = how_full(relief.before).unwrap_or_default();
    let after = how_full(relief.after).unwrap_or_default();
    let is_one = relief.removed == 1;
    let (entries, freed) = (units::entries(relief.removed), relief.freed);
    // What has expired is still there in a dry run.
    let now = how_full(relief.now).filter(|now| *now != was);
    let went = if is_dry {
        let full = match &now {
            Some(now) => format!("{now} now, {was} after what has expired, and {after} after that"),
            None => format!("{was}, and {after} afterwards"),
        };
        format!(
            "{entries} would be removed before {}, {freed}; {full}",
            if is_one { "it expires" } else { "they expire" }
        )
    } else {
        format!(
            "{entries} {} expired, {freed}; {was} before, and {after} now",
            if is_one { "was removed before it" } else { "were removed before they" }
        )
    };
    let low = low_mark(relief);
    match &relief.end {
        ReliefEnd::NotNeeded => match now {
            Some(now) => format!("not needed: {now} now, and {was} after this pass"),
            None => format!("not needed: {was}"),
        },
        ReliefEnd::Relieved if is_dry => format!("would be relieved: {went}"),
        ReliefEnd::Relieved => format!("relieved: {went}"),
        ReliefEnd::NothingLeft(way) => format!(
            "not relieved to {low}: {went}; nothing else may be removed ({}); `sweeper usage` shows \
             what takes up space",
            stays(way, relief.min_age, mode)
        ),
        ReliefEnd::NotFreed(missing) => format!(
            "not relieved to {low}: {went}; {} of what was removed is still not free after 10 s, so \
             no more is removed: a process may have removed files open, a snapshot or a clone may hold them, or other \
             processes may be writing as fast as space is freed",
            amount(*missing)
        ),
        ReliefEnd::TooMuch(usable) => format!(
            "not relieved to {low}: nothing was removed for that, because this {} has \
             {usable} in total; use a lower --keep-free",
            if relief.is_quota { "quota" } else { "file system" }
        ),
        ReliefEnd::Stopped => format!("not relieved to {low}: {went}; the pass was stopped"),
        ReliefEnd::Unknown(why) => {
            let before = if relief.removed > 0 { format!("{went}; ") } else { String::new() };
            format!("not relieved to {low}: {before}the system does not say how full it is: {why}")
        }
    }
}

/// What is in use, of bytes and inodes; and what is free, where that is what counts.
fn in_use(space: &Space, is_quota: bool, has_free: bool) -> String {
    let bytes = percent(space.bytes_used, space.usable());
    let of = if is_quota { " of its quota" } else { "" };
    let (free, share) =
        (Bytes(space.bytes_available), percent(space.inodes_used, space.inodes.max(1)));
    match (has_free, space.inodes > 0) {
        (true, true) => format!("{free} free ({bytes}{of} in use, inodes {share})"),
        (true, false) => format!("{free} free ({bytes}{of} in use)"),
        (false, true) => format!("{bytes} (inodes {share}){of} in use"),
        (false, false) => format!("{bytes}{of} in use"),
    }
}

fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{}%", tenths / 10, tenths % 10)
}

fn low_mark(relief: &Relief) -> String {
    let share = relief.pressure.relieve.or(relief.pressure.mark);
    let free = relief.pressure.keep_free.map(|free| format!("{free} free"));
    let marks: Vec<String> = share.map(|share| share.to_string()).into_iter().chain(free).collect();
    marks.join(" and ")
}

fn amount(Amount { bytes, inodes }: Amount) -> String {
    match (bytes, inodes) {
        (_, 0) => Bytes(bytes).to_string(),
        (0, _) => format!("{} inodes", grouped(inodes)),
        _ => format!("{} and {} inodes", Bytes(bytes), grouped(inodes)),
    }
}

/// How many entries have expired and are still there. In a dry run there are none: a run would have removed them.
fn left(way: &InTheWay, mode: RunMode) -> u64 {
    if mode == RunMode::DryRun { 0 } else { way.left }
}

/// What is said where nothing is in the way.
const NOTHING_ELSE: &str = "there is no other entry that may be removed early";

/// What is in the way.
fn stays(way: &InTheWay, min_age: MinAge, mode: RunMode) -> String {
    let young = format!("used within {}", units::coarse(min_age.ttl().as_duration()));
    let own = [
        (way.young, young.as_str()),
        (left(way, mode), "expired but not removed"),
        (way.linked, "with other names, which free nothing"),
        (way.failed, "failed"),
    ];
    let own = own.into_iter().filter(|(count, _)| *count > 0);
    let own = own.map(|(count, what)| format!("{} {what}", grouped(count)));
    let reasons = skipped(way).chain(kept(way));
    let reasons =
        reasons.map(|(reason, count)| format!("{} {}", grouped(count), reason.replace('_', " ")));
    let zones = way.zones.iter().map(|(zone, why)| format!("zone {zone}: {why}"));
    let all: Vec<String> = own.chain(reasons).chain(zones).collect();
    if all.is_empty() { NOTHING_ELSE.to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Pressure;

    fn relief(end: ReliefEnd) -> Relief {
        let at = |bytes_used| Space {
            bytes: 1000,
            bytes_used,
            bytes_available: 1000 - bytes_used,
            inodes: 200,
            inodes_used: 3,
        };
        Relief {
            path: "/data".into(),
            is_quota: false,
            pressure: Pressure {
                mark: Some(Share::percent(85)),
                relieve: Some(Share::percent(80)),
                keep_free: None,
            },
            min_age: MinAge::from_duration(std::time::Duration::from_secs(3600)),
            now: None,
            before: Some(at(951)),
            after: Some(at(900)),
            removed: 2,
            freed: Bytes(51),
            end,
        }
    }

    #[test]
    fn each_end_says_what_happened_and_what_is_in_the_way() {
        let mut way = InTheWay { young: 1200, left: 1, ..InTheWay::default() };
        way.skipped_by[Skipped::InUse as usize] = 3;
        way.kept_by[KeptReason::Excluded as usize] = 1;
        for (end, words) in [
            (
                ReliefEnd::Relieved,
                "relieved: 2 entries were removed before they expired, 51 B; 95.1% (inodes 1.5%) in \
                 use before, and 90.0% (inodes 1.5%) in use now",
            ),
            (
                ReliefEnd::NothingLeft(way),
                "not relieved to 80%: 2 entries were removed before they expired, 51 B; 95.1% (inodes \
                 1.5%) in use before, and 90.0% (inodes 1.5%) in use now; nothing else may be removed \
                 (1,200 used within 1h, 1 expired but not removed, 3 in use, 1 excluded)",
            ),
            (ReliefEnd::NothingLeft(InTheWay::default()), NOTHING_ELSE),
            (
                ReliefEnd::NotFreed(Amount { bytes: 51, inodes: 2 }),
                "; 51 B and 2 inodes of what was removed is still not free",
            ),
            (ReliefEnd::Stopped, "the pass was stopped"),
            (ReliefEnd::Unknown("no".to_owned()), "how full it is: no"),
        ] {
            let text = message(&relief(end), RunMode::Real);
            assert!(text.contains(words), "{text}");
        }
        let mut in_bytes = relief(ReliefEnd::Relieved);
        in_bytes.pressure.keep_free = Some(Bytes(60));
        let text = message(&in_bytes, RunMode::Real);
        assert!(
            text.contains("49 B free (95.1% in use, inodes 1.5%) before, and 100 B free"),
            "{text}"
        );
        let dry = |end| message(&relief(end), RunMode::DryRun);
        assert!(dry(ReliefEnd::Relieved).starts_with("would be relieved"));
        assert!(dry(ReliefEnd::NotNeeded).starts_with("not needed: 95.1%"));
        let before = relief(ReliefEnd::Relieved).before.unwrap();
        let full = Space { bytes_used: 1000, bytes_available: 0, ..before };
        let dry = |end| message(&Relief { now: Some(full), ..relief(end) }, RunMode::DryRun);
        assert_eq!(
            dry(ReliefEnd::NotNeeded),
            "not needed: 100.0% (inodes 1.5%) in use now, and 95.1% (inodes 1.5%) in use after this pass"
        );
        let went = "100.0% (inodes 1.5%) in use now, 95.1% (inodes 1.5%) in use after what has expired, and 90.0% \
                    (inodes 1.5%) in use after that";
        assert!(dry(ReliefEnd::Relieved).ends_with(went));
        let of_quota = Relief { is_quota: true, ..relief(ReliefEnd::NotNeeded) };
        let text = message(&of_quota, RunMode::Real);
        assert_eq!(text, "not needed: 95.1% (inodes 1.5%) of its quota in use");
        let mut withheld = Relief { now: Some(full), ..relief(ReliefEnd::Relieved) };
        withheld.withhold();
        let text = message(&withheld, RunMode::Real);
        assert!(text.contains("100.0% (inodes 1.5%) in use before, and 100.0%"), "{text}");
        // What would have made it superfluous was not removed.
        let mut withheld = Relief { now: Some(full), ..relief(ReliefEnd::NotNeeded) };
        withheld.withhold();
        assert_eq!((&withheld.end, withheld.before), (&ReliefEnd::Stopped, Some(full)));
        // Entries that have expired would have been removed before.
        let left = InTheWay { left: 5, ..InTheWay::default() };
        assert!(dry(ReliefEnd::NothingLeft(left)).contains(NOTHING_ELSE));
    }
}

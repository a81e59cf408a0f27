//! The table of settings.
//!
//! This module must not contain code: all that is said about a setting is in its row.

use super::uses::{
    ANY, DRY, ENDS, FORMATS, JUDGES, KEEPS, LOCKED, MEASURED, ONCE, PATHS, PRINTS, REDIS, RULES,
    SCANS, SERVE, SHARES, SWEEPS, WAITS, WALKS, WRITTEN, ZONES,
};
use super::{Setting, Takes, Use};

const WHAT: &str = "What to sweep";
const LOCKS: &str = "Locks";
const LIMITS: &str = "Speed and limits";
const PARTS: &str = "Parts of the work";
const OUTPUT: &str = "Output";
const SCHEDULE: &str = "Schedule and status";

const BASE: Setting = Setting {
    key: "",
    default: None,
    takes: Takes::One("DUR"),
    choices: &[],
    used_by: &[Use::Run],
    group: WHAT,
    help: "",
};

/// Every setting, in the order of the help.
pub(super) static SETTINGS: [Setting; 44] = [
    Setting {
        key: "data",
        takes: Takes::One("DIR"),
        used_by: PATHS,
        help: "The data root [default: the first of $CVAT_BASE_DIR/data, ./data and /home/django/data]",
        ..BASE
    },
    Setting {
        key: "config",
        takes: Takes::One("FILE"),
        used_by: ANY,
        help: "Read settings from this TOML file; its keys are the names of the flags with underscores",
        ..BASE
    },
    Setting {
        key: "profile",
        default: Some("cvat"),
        takes: Takes::One("NAME"),
        choices: &["cvat", "none"],
        used_by: &[Use::Run, Use::Plan, Use::Apply, Use::Serve, Use::Why, Use::Hold, Use::Usage],
        help: "Sweep CVAT's zones and those of the settings file (cvat), or only the latter (none)",
        ..BASE
    },
    Setting {
        key: "dry_run",
        takes: Takes::Nothing,
        used_by: DRY,
        help: "Report what would be removed, and remove nothing",
        ..BASE
    },
    Setting {
        key: "zones",
        takes: Takes::Many("ZONES"),
        used_by: ZONES,
        help: "Zones to sweep, separated by commas: export, tmp, instance-tmp, chunk-cache, or zones \
               of the settings file [default: export, tmp and all zones of the settings file]",
        ..BASE
    },
    Setting {
        key: "ttl",
        default: Some("24h"),
        used_by: RULES,
        help: "Remove exports that have not been used for this long",
        ..BASE
    },
    Setting {
        key: "ttl_project",
        used_by: RULES,
        help: "The same, for exports of projects [default: --ttl]",
        ..BASE
    },
    Setting {
        key: "ttl_task",
        used_by: RULES,
        help: "The same, for exports of tasks [default: --ttl]",
        ..BASE
    },
    Setting {
        key: "ttl_job",
        used_by: RULES,
        help: "The same, for exports of jobs [default: --ttl]",
        ..BASE
    },
    Setting {
        key: "ttl_events",
        used_by: RULES,
        help: "The same, for exports of audit events (CSV) [default: --ttl]",
        ..BASE
    },
    Setting {
        key: "retention",
        default: Some("14d"),
        used_by: RULES,
        help: "Remove temporary entries that have not been used for this long",
        ..BASE
    },
    Setting {
        key: "tmp_age",
        default: Some("tree"),
        takes: Takes::One("HOW"),
        choices: &["tree", "write", "entry"],
        used_by: RULES,
        help: "What counts as the last use of a temporary entry: the newest access or write in its \
               tree (tree), the newest write (write), or its own access time as in CVAT (entry; for \
               a link, CVAT uses that of its target)",
        ..BASE
    },
    Setting {
        key: "older_than",
        used_by: &[Use::Legacy, Use::Why, Use::Usage],
        help: "Keep old export caches that were used within this time [default: remove all]",
        ..BASE
    },
    Setting {
        key: "exclude",
        takes: Takes::Many("GLOB"),
        used_by: KEEPS,
        help: "Keep entries whose name matches, or, if the glob has a /, whose path below the data \
               root matches; repeat the flag for more",
        ..BASE
    },
    Setting {
        key: "in_use",
        default: Some("skip"),
        takes: Takes::One("HOW"),
        choices: &["skip", "ignore"],
        used_by: JUDGES,
        help: "Skip entries that another process has open or locked, or do not check",
        ..BASE
    },
    Setting {
        key: "lock",
        default: Some("auto"),
        takes: Takes::One("BACKEND"),
        choices: &["auto", "redis", "flock", "none"],
        used_by: LOCKED,
        group: LOCKS,
        help: "The lock to take before a removal; auto: flock, and for exports also CVAT's lock in \
               Redis if a server is set",
    },
    Setting {
        key: "lock_wait",
        default: Some("5s"),
        used_by: WAITS,
        group: LOCKS,
        help: "Retry locked entries for this long in total, at the end of a pass",
        ..BASE
    },
    Setting {
        key: "redis",
        takes: Takes::One("URL"),
        used_by: REDIS,
        group: LOCKS,
        help: "The Redis server that CVAT uses for its locks [default: from CVAT_REDIS_INMEM_HOST]",
        ..BASE
    },
    Setting {
        key: "cvat_data",
        takes: Takes::One("DIR"),
        used_by: REDIS,
        group: LOCKS,
        help: "The path of the data root in CVAT's containers, which is part of its lock keys \
               [default: --data]",
        ..BASE
    },
    Setting {
        key: "lock_ttl",
        default: Some("30s"),
        used_by: REDIS,
        group: LOCKS,
        help: "Let a lock in Redis expire after this time",
        ..BASE
    },
    Setting {
        key: "if_running",
        takes: Takes::One("WHAT"),
        choices: &["exit", "wait", "share"],
        used_by: SWEEPS,
        group: LOCKS,
        help: "If another sweeper is at work in a zone: leave that zone alone (exit), wait for it, \
               or share the work [default: exit; for serve: wait]",
        ..BASE
    },
    Setting {
        key: "jobs",
        takes: Takes::One("N"),
        used_by: WALKS,
        group: LIMITS,
        help: "The number of workers [default: the number of available processors]",
        ..BASE
    },
    Setting {
        key: "nice",
        takes: Takes::Nothing,
        used_by: WALKS,
        group: LIMITS,
        help: "Run at the lowest CPU priority and in the idle I/O class",
        ..BASE
    },
    Setting {
        key: "max_rate",
        takes: Takes::One("N/s"),
        used_by: SWEEPS,
        group: LIMITS,
        help: "Remove at most this many files per second, counting files in trees",
        ..BASE
    },
    Setting {
        key: "deadline",
        used_by: ENDS,
        group: LIMITS,
        help: "Stop a pass after this time; the current entry is finished first",
        ..BASE
    },
    Setting {
        key: "max_removals",
        takes: Takes::One("N"),
        used_by: SWEEPS,
        group: LIMITS,
        help: "Do not begin a pass that would remove more entries than this",
        ..BASE
    },
    Setting {
        key: "max_bytes",
        takes: Takes::One("SIZE"),
        used_by: SWEEPS,
        group: LIMITS,
        help: "Do not begin a pass that would free more space than this, such as 50GiB",
        ..BASE
    },
    Setting {
        key: "max_share",
        takes: Takes::One("PCT"),
        used_by: SHARES,
        group: LIMITS,
        help: "Do not begin a pass that would remove more than this share of the entries of a zone, \
               such as 50% [default: none; for the first pass of serve over a zone with 10 entries \
               or more: 90%]",
        ..BASE
    },
    Setting {
        key: "shard",
        takes: Takes::One("I/N"),
        used_by: SCANS,
        group: PARTS,
        help: "Sweep only part I of N, counted from 0; auto/N takes I from JOB_COMPLETION_INDEX",
        ..BASE
    },
    Setting {
        key: "from0",
        takes: Takes::One("FILE"),
        used_by: ONCE,
        group: PARTS,
        help: "Sweep only the entries whose paths are in this file (-: standard input), each ended \
               by a NUL byte",
        ..BASE
    },
    Setting {
        key: "max_plan_age",
        default: Some("1h"),
        used_by: &[Use::Apply],
        group: PARTS,
        help: "Refuse a plan that is older than this",
        ..BASE
    },
    Setting {
        key: "format",
        default: Some("text"),
        takes: Takes::One("FORMAT"),
        choices: &["text", "json", "jsonl"],
        used_by: FORMATS,
        group: OUTPUT,
        help: "The format of the output",
    },
    Setting {
        key: "progress",
        default: Some("auto"),
        takes: Takes::One("WHEN"),
        choices: &["auto", "always", "never"],
        used_by: WALKS,
        group: OUTPUT,
        help: "When to show progress on stderr; auto: if it is a terminal, and for legacy always",
    },
    Setting {
        key: "color",
        default: Some("auto"),
        takes: Takes::One("WHEN"),
        choices: &["auto", "always", "never"],
        used_by: PRINTS,
        group: OUTPUT,
        help: "When to use color; auto: on a terminal, unless NO_COLOR is set",
    },
    Setting {
        key: "log_format",
        default: Some("text"),
        takes: Takes::One("FORMAT"),
        choices: &["text", "json"],
        used_by: ANY,
        group: OUTPUT,
        help: "The format of log lines on stderr",
    },
    Setting {
        key: "html",
        takes: Takes::One("FILE"),
        used_by: &[Use::Usage],
        group: OUTPUT,
        help: "Also write a page for a browser to this file",
        ..BASE
    },
    Setting {
        key: "metrics_file",
        takes: Takes::One("FILE"),
        used_by: MEASURED,
        group: OUTPUT,
        help: "Add the metrics of each single run to this file, for node_exporter's textfile collector",
        ..BASE
    },
    Setting {
        key: "audit_log",
        takes: Takes::One("FILE"),
        used_by: WRITTEN,
        group: OUTPUT,
        help: "Append a line to this file before each removal; if that fails, remove nothing; SIGHUP \
               reopens the file",
        ..BASE
    },
    Setting {
        key: "every",
        used_by: SERVE,
        group: SCHEDULE,
        help: "Sweep each zone once per this period [default: half an hour after CVAT's own jobs]",
        ..BASE
    },
    Setting {
        key: "schedule",
        takes: Takes::Many("ZONE=CRON"),
        used_by: SERVE,
        group: SCHEDULE,
        help: "When to sweep a zone, as a cron expression in the time zone TZ; repeat the flag for \
               more zones [default: --every, or export='30 0,12 * * *' and tmp='30 18 * * *']",
        ..BASE
    },
    Setting {
        key: "jitter",
        default: Some("0s"),
        used_by: SERVE,
        group: SCHEDULE,
        help: "Delay each pass by a random time up to this",
        ..BASE
    },
    Setting {
        key: "at_start",
        takes: Takes::Nothing,
        used_by: SERVE,
        group: SCHEDULE,
        help: "Also sweep when the service starts",
        ..BASE
    },
    Setting {
        key: "listen",
        takes: Takes::One("ADDR"),
        used_by: &[Use::Serve, Use::ClearmlServe, Use::Health],
        group: SCHEDULE,
        help: "Serve a page, /metrics and /healthz on this address, or on this port of the loopback \
               interface [default: do not listen]",
        ..BASE
    },
    Setting {
        key: "now",
        takes: Takes::One("RFC3339"),
        used_by: &[
            Use::Run,
            Use::Plan,
            Use::Apply,
            Use::Serve,
            Use::Legacy,
            Use::Why,
            Use::Usage,
            Use::ClearmlRun,
            Use::ClearmlServe,
            Use::ClearmlOrphans,
            Use::ClearmlJournal,
            Use::ClearmlWhy,
        ],
        help: "Judge as if it were this moment",
        ..BASE
    },
];

//! The table of settings: one row each, from which come the flag, the environment variables, the
//! key in the settings file, the default and the help.
//!
//! It must not read or check anything.

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it is there or not.
    Nothing,
    /// One value, called so in the help.
    One(&'static str),
    /// A value each time it is given.
    Many(&'static str),
}

/// The commands that a setting is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All that look at a volume, and `hold`.
    Locks,
    /// All that look at a volume.
    Every,
    /// Those that judge by zones: `run`, `why`, `config`.
    Zones,
    /// `legacy` and `config`.
    Legacy,
    /// All that sweep.
    Sweeps,
    /// `run`, `legacy` and `config`.
    Once,
    /// `serve` and `config`.
    Serve,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the settings file; with dashes for underscores, its flag.
    pub key: &'static str,
    /// Its variables, the strongest first.
    pub env: &'static [&'static str],
    /// Its value when nobody says otherwise.
    pub default: Option<&'static str>,
    /// What its flag takes.
    pub takes: Takes,
    /// The words it allows; none: it is checked elsewhere.
    pub choices: &'static [&'static str],
    /// The commands it is for.
    pub scope: Scope,
    /// Whether the help leaves it out.
    pub hidden: bool,
    /// One line for the help.
    pub help: &'static str,
}

impl Setting {
    /// Its flag.
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }

    /// Whether it may stand in the settings file.
    pub fn in_file(&self) -> bool {
        self.key != "config" && self.key != "now"
    }

    /// Whether it may have several values.
    pub const fn is_list(&self) -> bool {
        matches!(self.takes, Takes::Many(_))
    }

    /// Whether it is there or not.
    pub const fn is_switch(&self) -> bool {
        matches!(self.takes, Takes::Nothing)
    }
}

const BASE: Setting = Setting {
    key: "",
    env: &[],
    default: None,
    takes: Takes::One("DUR"),
    choices: &[],
    scope: Scope::Every,
    hidden: false,
    help: "",
};

/// Every setting, in the order of the help.
pub static SETTINGS: [Setting; 37] = [
    Setting {
        key: "data",
        env: &["SWEEPER_DATA"],
        takes: Takes::One("DIR"),
        scope: Scope::Locks,
        help: "The data root [default: $CVAT_BASE_DIR/data, ./data or /home/django/data]",
        ..BASE
    },
    Setting {
        key: "config",
        env: &["SWEEPER_CONFIG"],
        takes: Takes::One("FILE"),
        scope: Scope::Locks,
        help: "A settings file (TOML; keys are the flags' names with underscores)",
        ..BASE
    },
    Setting {
        key: "dry_run",
        env: &["SWEEPER_DRY_RUN"],
        takes: Takes::Nothing,
        help: "Rehearse: the same judgement, locks and report, and nothing is removed",
        ..BASE
    },
    Setting {
        key: "zones",
        env: &["SWEEPER_ZONES"],
        default: Some("export,tmp"),
        takes: Takes::One("ZONES"),
        scope: Scope::Zones,
        help: "Zones to sweep: export, tmp, instance-tmp",
        ..BASE
    },
    Setting {
        key: "ttl",
        env: &["SWEEPER_TTL", "CVAT_DATASET_CACHE_TTL", "CVAT_EXPORT_CACHE_TTL"],
        default: Some("24h"),
        scope: Scope::Zones,
        help: "How long an export may stay unused",
        ..BASE
    },
    Setting {
        key: "ttl_project",
        env: &["SWEEPER_TTL_PROJECT"],
        scope: Scope::Zones,
        help: "The same for exports of projects [default: --ttl]",
        ..BASE
    },
    Setting {
        key: "ttl_task",
        env: &["SWEEPER_TTL_TASK"],
        scope: Scope::Zones,
        help: "The same for exports of tasks [default: --ttl]",
        ..BASE
    },
    Setting {
        key: "ttl_job",
        env: &["SWEEPER_TTL_JOB"],
        scope: Scope::Zones,
        help: "The same for exports of jobs [default: --ttl]",
        ..BASE
    },
    Setting {
        key: "ttl_events",
        env: &["SWEEPER_TTL_EVENTS"],
        scope: Scope::Zones,
        help: "The same for tables of audit events [default: --ttl]",
        ..BASE
    },
    Setting {
        key: "retention",
        env: &["SWEEPER_RETENTION", "TMP_FILE_OR_DIR_RETENTION_DAYS"],
        default: Some("14d"),
        scope: Scope::Zones,
        help: "How long a temporary entry may stay unused",
        ..BASE
    },
    Setting {
        key: "tmp_age",
        env: &["SWEEPER_TMP_AGE"],
        default: Some("tree"),
        takes: Takes::One("HOW"),
        choices: &["tree", "entry"],
        scope: Scope::Zones,
        help: "What use of a temporary entry means: newest in its tree, or its own atime as in CVAT",
        ..BASE
    },
    Setting {
        key: "older_than",
        env: &["SWEEPER_OLDER_THAN"],
        scope: Scope::Legacy,
        help: "Keep old caches whose newest content is younger [default: none is kept]",
        ..BASE
    },
    Setting {
        key: "exclude",
        env: &["SWEEPER_EXCLUDE"],
        takes: Takes::Many("GLOB"),
        help: "Keep entries with such a name, or with such a path below the data root if it has a /",
        ..BASE
    },
    Setting {
        key: "in_use",
        env: &["SWEEPER_IN_USE"],
        default: Some("spare"),
        takes: Takes::One("HOW"),
        choices: &["spare", "ignore"],
        help: "Spare what another process has open or locked, or do not ask",
        ..BASE
    },
    Setting {
        key: "lock",
        env: &["SWEEPER_LOCK"],
        default: Some("auto"),
        takes: Takes::One("BACKEND"),
        choices: &["auto", "redis", "flock", "none"],
        scope: Scope::Locks,
        help: "The lock to take before anything is removed",
        ..BASE
    },
    Setting {
        key: "lock_wait",
        env: &["SWEEPER_LOCK_WAIT"],
        default: Some("5s"),
        scope: Scope::Locks,
        help: "How long in all to come back to what is busy",
        ..BASE
    },
    Setting {
        key: "redis",
        env: &["SWEEPER_REDIS"],
        takes: Takes::One("URL"),
        scope: Scope::Locks,
        help: "The Redis server that CVAT's exporters lock with [default: CVAT_REDIS_INMEM_HOST]",
        ..BASE
    },
    Setting {
        key: "cvat_data",
        env: &["SWEEPER_CVAT_DATA"],
        takes: Takes::One("DIR"),
        scope: Scope::Locks,
        help: "The data root as CVAT sees it, from which the keys of its locks are made [default: --data]",
        ..BASE
    },
    Setting {
        key: "lock_ttl",
        env: &["SWEEPER_LOCK_TTL", "CVAT_DATASET_EXPORT_LOCK_TTL", "CVAT_EXPORT_CACHE_LOCK_TTL"],
        default: Some("30s"),
        scope: Scope::Locks,
        help: "For how long a Redis lock is asked",
        ..BASE
    },
    Setting {
        key: "jobs",
        env: &["SWEEPER_JOBS"],
        takes: Takes::One("N"),
        help: "Workers [default: the cores that may be used]",
        ..BASE
    },
    Setting {
        key: "nice",
        env: &["SWEEPER_NICE"],
        takes: Takes::Nothing,
        scope: Scope::Sweeps,
        help: "Stand back for others: lowest priority at the processors, idle class at the disks",
        ..BASE
    },
    Setting {
        key: "max_rate",
        env: &["SWEEPER_MAX_RATE"],
        takes: Takes::One("N/s"),
        scope: Scope::Sweeps,
        help: "Remove at most so many files a second, those in trees included",
        ..BASE
    },
    Setting {
        key: "shard",
        env: &["SWEEPER_SHARD"],
        takes: Takes::One("I/N"),
        scope: Scope::Sweeps,
        help: "Sweep only the part I (from 0) of N; auto/N takes I from JOB_COMPLETION_INDEX",
        ..BASE
    },
    Setting {
        key: "from0",
        env: &["SWEEPER_FROM0"],
        takes: Takes::One("FILE"),
        help: "Look only at the entries whose paths are in this file (-: stdin), each ended by a NUL",
        scope: Scope::Once,
        ..BASE
    },
    Setting {
        key: "deadline",
        env: &["SWEEPER_DEADLINE"],
        help: "Stop after this time, with the entry in hand finished",
        ..BASE
    },
    Setting {
        key: "max_removals",
        env: &["SWEEPER_MAX_REMOVALS"],
        takes: Takes::One("N"),
        help: "Stop after so many removals",
        ..BASE
    },
    Setting {
        key: "format",
        env: &["SWEEPER_FORMAT"],
        default: Some("text"),
        takes: Takes::One("FORMAT"),
        choices: &["text", "json", "jsonl"],
        help: "How the report is written",
        ..BASE
    },
    Setting {
        key: "progress",
        env: &["SWEEPER_PROGRESS"],
        default: Some("auto"),
        takes: Takes::One("WHEN"),
        choices: &["auto", "always", "never"],
        help: "When progress is shown on stderr; auto: when that is a terminal",
        ..BASE
    },
    Setting {
        key: "log_format",
        env: &["SWEEPER_LOG_FORMAT"],
        default: Some("text"),
        takes: Takes::One("FORMAT"),
        choices: &["text", "json"],
        scope: Scope::Locks,
        help: "How log lines on stderr are written",
        ..BASE
    },
    Setting {
        key: "if_running",
        env: &["SWEEPER_IF_RUNNING"],
        takes: Takes::One("WHAT"),
        choices: &["exit", "wait", "share"],
        scope: Scope::Sweeps,
        help: "When another sweeper is at work on the volume: exit and leave its zones alone, wait \
               for it, or share the work [default: exit; of serve: wait]",
        ..BASE
    },
    Setting {
        key: "metrics_file",
        env: &["SWEEPER_METRICS_FILE"],
        takes: Takes::One("FILE"),
        scope: Scope::Once,
        help: "Write metrics here after the pass, for node_exporter's textfile collector",
        ..BASE
    },
    Setting {
        key: "every",
        env: &["SWEEPER_EVERY"],
        scope: Scope::Serve,
        help: "Sweep each zone once in this time [default: CVAT's own schedule]",
        ..BASE
    },
    Setting {
        key: "schedule",
        env: &["SWEEPER_SCHEDULE"],
        takes: Takes::Many("ZONE=CRON"),
        scope: Scope::Serve,
        help: "When to sweep a zone, in the time zone of TZ [default: --every, or export='0 0,12 * * *' \
               and tmp='0 18 * * *']",
        ..BASE
    },
    Setting {
        key: "jitter",
        env: &["SWEEPER_JITTER"],
        default: Some("0s"),
        scope: Scope::Serve,
        help: "Put each pass off by a random part of this time",
        ..BASE
    },
    Setting {
        key: "at_start",
        env: &["SWEEPER_AT_START"],
        takes: Takes::Nothing,
        scope: Scope::Serve,
        help: "Sweep at once when the service starts, too",
        ..BASE
    },
    Setting {
        key: "listen",
        env: &["SWEEPER_LISTEN"],
        takes: Takes::One("ADDR"),
        scope: Scope::Serve,
        help: "Show /metrics and /healthz here; a port alone is one of the loopback interface \
               [default: nowhere]",
        ..BASE
    },
    Setting {
        key: "now",
        takes: Takes::One("RFC3339"),
        hidden: true,
        help: "Judge as if it were this moment",
        ..BASE
    },
];

//! The settings as a whole: sources, zones, refusals.

use std::collections::BTreeMap;

use super::*;
use crate::rules::{EntryKind, Expiry, LastUse, LockKind, Ttl};

mod user_zones;

/// Settings in the directory `/work`, without a settings file.
pub(super) fn raw(flags: &[(&'static str, &str)], env: &[(&str, &str)]) -> RawSettings {
    let mut raw = RawSettings {
        env: env
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        directory: "/work".into(),
        processors: 2,
        ..RawSettings::default()
    };
    for (key, value) in flags {
        raw.flags.entry(key).or_default().push((*value).to_owned());
    }
    raw
}

/// The same with the text of a settings file.
pub(super) fn with_file(mut raw: RawSettings, text: &str) -> RawSettings {
    let text = Ok(text.to_owned());
    raw.file = Some(SettingsFile { path: "/etc/s.toml".into(), text, is_regular: true });
    raw
}

pub(super) fn config(raw: &RawSettings) -> Result<Config, ConfigError> {
    Config::resolve(raw)
}

pub(super) fn error(raw: &RawSettings) -> String {
    config(raw).map(|config| config.settings).unwrap_err().to_string()
}

fn shown(config: &Config, key: &str) -> (String, String) {
    let row = config.settings.iter().find(|row| row.key == key).unwrap();
    (row.value.clone(), row.origin.to_string())
}

fn names(zones: &[Arc<Zone>]) -> Vec<&str> {
    zones.iter().map(|zone| zone.name.as_str()).collect()
}

const TWO_ZONES: &str = "
[[zone]]
name = 'labels'
path = 'exports/labels'
entry = 'file'
names = ['label-.*']
ttl = '7d'

[[zone]]
name = 'scratch'
path = '/mnt/scratch'
entry = 'tree'
ttl = '1d'
";

#[test]
fn an_empty_name_of_clearmls_tasks_is_refused() {
    let error = error(&with_file(raw(&[], &[]), "[clearml]\nname = ''\n"));
    assert!(error.contains("name") && error.contains("it is empty"), "{error}");
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = config(&raw(&[], &[])).unwrap();
    for (key, value) in [
        ("profile", "cvat"),
        ("ttl", "1d"),
        ("ttl_task", "1d"),
        ("retention", "14d"),
        ("zones", "export,tmp"),
        ("lock", "auto"),
        ("lock_ttl", "30s"),
        ("dry_run", "false"),
        ("jobs", "2"),
        ("exclude", ""),
        ("data", "./data or /home/django/data"),
    ] {
        assert_eq!(shown(&config, key), (value.to_owned(), "default".to_owned()), "{key}");
    }
    assert!(config.settings.iter().all(|row| row.key != "now" && row.key != "config"));
    assert_eq!(config.data, Ok(DataRoot::AnyOf(vec!["./data".into(), "/home/django/data".into()])));
    assert_eq!(config.marks, cvat::MARKS);
    assert_eq!(
        names(&config.all_zones),
        ["export", "tmp", "legacy", "instance-tmp", "chunk-cache"]
    );
    assert_eq!(config.legacy.unwrap().ttls, [Expiry::AtOnce]);
    assert!(config.locks.application.as_ref().unwrap().is_none() && config.warnings.is_empty());
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let file = "ttl = '2h'\nttl_job = '30m'\n\njobs = 3\nexclude = ['a*', 'b*']\nnice = true";
    let from_file = config(&with_file(raw(&[], &[]), file)).unwrap();
    let origin = |line| format!("file \"/etc/s.toml\", line {line}");
    assert_eq!(shown(&from_file, "ttl"), ("2h".to_owned(), origin(1)));
    assert_eq!(shown(&from_file, "ttl_task"), ("2h".to_owned(), origin(1)));
    assert_eq!(shown(&from_file, "ttl_job"), ("30m".to_owned(), origin(2)));
    assert_eq!(shown(&from_file, "jobs"), ("3".to_owned(), origin(4)));
    assert_eq!(shown(&from_file, "exclude"), ("a*,b*".to_owned(), origin(5)));
    assert!(from_file.nice);

    let env = [("CVAT_EXPORT_CACHE_TTL", "3600"), ("TMP_FILE_OR_DIR_RETENTION_DAYS", "3")];
    let from_env = config(&with_file(raw(&[], &env), file)).unwrap();
    let origin = "environment CVAT_EXPORT_CACHE_TTL".to_owned();
    assert_eq!(shown(&from_env, "ttl"), ("1h".to_owned(), origin));
    assert_eq!(shown(&from_env, "retention").0, "3d");
    // The TTL of a class in the weaker file does not win over a stronger common one.
    assert_eq!(shown(&from_env, "ttl_job").0, "1h");

    let env = [("SWEEPER_TTL", "5h"), ("CVAT_DATASET_CACHE_TTL", "1800"), ("SWEEPER_NICE", "no")];
    let ours = config(&with_file(raw(&[], &env), file)).unwrap();
    assert_eq!(shown(&ours, "ttl").0, "5h");
    assert!(!ours.nice);
    let flags = [("ttl", "36h"), ("ttl_job", "1h")];
    let flag = config(&with_file(raw(&flags, &env), file)).unwrap();
    assert_eq!(shown(&flag, "ttl"), ("1d 12h".to_owned(), "flag --ttl".to_owned()));
    assert_eq!(shown(&flag, "ttl_job"), ("1h".to_owned(), "flag --ttl-job".to_owned()));
    assert_eq!(shown(&flag, "ttl_task").1, "flag --ttl");
    assert_eq!(flag.zones[0].ttls[2], Expiry::After(Ttl::from_secs(3600)));
    // An empty variable counts as unset.
    let empty = config(&raw(&[], &[("SWEEPER_TTL", ""), ("CVAT_EXPORT_CACHE_TTL", "")])).unwrap();
    assert_eq!(shown(&empty, "ttl").1, "default");
}

#[test]
fn variables_of_cvat_are_read_as_cvat_reads_them() {
    for (text, secs) in [("+3600", 3600), ("3_600", 3600), ("0", 0)] {
        let config = config(&raw(&[], &[("CVAT_EXPORT_CACHE_TTL", text)])).unwrap();
        assert_eq!(config.zones[0].ttls[0], Expiry::After(Ttl::from_secs(secs)), "{text}");
    }
    let negative = config(&raw(&[], &[("CVAT_EXPORT_CACHE_TTL", "-5")])).unwrap_err().to_string();
    assert!(negative.contains("write a number of seconds"), "{negative}");
    let env = [("CVAT_EXPORT_CACHE_TTL", "3600"), ("CVAT_DATASET_CACHE_TTL", "1800")];
    let deprecated = config(&raw(&[], &env)).unwrap();
    assert_eq!(shown(&deprecated, "ttl").0, "30m");
    assert!(deprecated.warnings[0].contains("CVAT_DATASET_CACHE_TTL is deprecated"));
    let base = config(&raw(&[], &[("CVAT_BASE_DIR", "/opt/cvat")])).unwrap();
    let (value, origin) = shown(&base, "data");
    assert!(value.starts_with("/opt/cvat/data or ./data"), "{value}");
    assert_eq!(origin, "environment CVAT_BASE_DIR");
}

/// It is an error only where an export is locked.
#[test]
fn a_lock_in_redis_without_a_server_is_refused_with_its_origin() {
    let config = config(&raw(&[], &[("SWEEPER_LOCK", "redis")])).unwrap();
    let error = config.locks.application.unwrap_err().to_string();
    assert!(error.contains("SWEEPER_LOCK") && error.contains("no Redis server"), "{error}");
}

#[test]
fn a_wrong_value_is_refused_with_its_origin() {
    for (key, value) in [
        ("ttl", "soon"),
        ("ttl", "86400"),
        ("retention", "1.5"),
        ("older_than", "-1d"),
        ("tmp_age", "newest"),
        ("jobs", "0"),
        ("jobs", "many"),
        ("max_removals", "-1"),
        ("max_bytes", "50"),
        ("max_bytes", "50G"),
        ("max_bytes", "much"),
        ("max_share", "0.5"),
        ("max_share", "101%"),
        ("max_rate", "fast"),
        ("deadline", ""),
        ("zones", "export,nonsense"),
        ("zones", "legacy"),
        ("zones", "tmp,tmp"),
        ("zones", "tmp,cron_tmp_directory_cleanup"),
        ("zones", ""),
        ("exclude", "a[b"),
        ("exclude", "cache/exports/*"),
        ("in_use", "spare"),
        ("lock", "paper"),
        ("lock_wait", "x"),
        ("lock_ttl", "0"),
        ("lock_ttl", "2d"),
        ("cvat_data", "data"),
        ("redis", "http://host"),
        ("shard", "3/3"),
        ("shard", "auto/3"),
        ("format", "xml"),
        ("progress", "no"),
        ("log_format", "xml"),
        ("if_running", "kill"),
        ("now", "yesterday"),
        ("profile", "clearml"),
    ] {
        let flag = error(&raw(&[(key, value)], &[]));
        let name = format!("flag --{}", key.replace('_', "-"));
        assert!(flag.contains(&name) && flag.starts_with(key), "{key}={value}: {flag}");
        if key != "now" && !value.is_empty() {
            let variable = format!("SWEEPER_{}", key.to_ascii_uppercase());
            let env = error(&raw(&[], &[(&variable, value)]));
            assert!(env.contains(&format!("environment {variable}")), "{key}={value}: {env}");
            let file = error(&with_file(raw(&[], &[]), &format!("\n{key} = {value:?}")));
            assert!(file.contains("file \"/etc/s.toml\", line 2"), "{key}={value}: {file}");
        }
    }
    for (name, value) in [
        ("CVAT_EXPORT_CACHE_TTL", "24 hours"),
        ("TMP_FILE_OR_DIR_RETENTION_DAYS", "three"),
        ("SWEEPER_DRY_RUN", "perhaps"),
        ("CVAT_REDIS_INMEM_PORT", "high"),
        ("CVAT_EXPORT_CACHE_LOCK_ACQUISITION_TIMEOUT", "30"),
    ] {
        let error = error(&raw(&[], &[(name, value)]));
        assert!(error.contains(&format!("environment {name}")), "{error}");
        assert!(error.contains(&format!("{value:?}")), "{error}");
    }
    assert!(error(&raw(&[("retention", "14")], &[])).contains("write 14h for hours, 14d for days"));
    assert!(error(&with_file(raw(&[], &[]), "ttl = 7200")).contains("write 7200h for hours"));
    assert!(error(&raw(&[("zones", "exprot")], &[])).contains("did you mean export?"));
    let far = error(&raw(&[("zones", "all")], &[]));
    assert!(far.contains("there is no zone \"all\". There are: export, tmp"), "{far}");
    assert!(error(&raw(&[], &[("SWEEPER_DRYRUN", "1")])).contains("did you mean SWEEPER_DRY_RUN?"));
    let mut unreadable = with_file(raw(&[], &[]), "");
    unreadable.file.as_mut().unwrap().text = Err("Permission denied".to_owned());
    assert_eq!(error(&unreadable), "settings file \"/etc/s.toml\": Permission denied");
    assert_eq!(LogFormat::of(&unreadable), LogFormat::Text);
}

#[test]
fn lists_come_from_repeated_flags_commas_in_variables_and_arrays() {
    let exclude = |raw: &RawSettings| shown(&config(raw).unwrap(), "exclude").0;
    assert_eq!(exclude(&raw(&[("exclude", "*.zip"), ("exclude", "{a,b}")], &[])), "*.zip,{a,b}");
    let variable = raw(&[], &[("SWEEPER_EXCLUDE", "*.zip,*.csv")]);
    let found = config(&variable).unwrap();
    for name in [c"a.zip", c"a.csv"] {
        assert!(found.exclude.covers(Path::new("tmp"), name), "{name:?}");
    }
    assert!(!found.exclude.covers(Path::new("tmp"), c"a.txt") && found.warnings.is_empty());
    let flag = config(&raw(&[("exclude", "*.zip,*.csv")], &[])).unwrap();
    assert!(flag.warnings[0].contains("one glob"), "{:?}", flag.warnings);
    assert_eq!(exclude(&with_file(raw(&[], &[]), "exclude = ['a', 'b']")), "a,b");
    for zones in ["zones = 'instance-tmp, tmp'", "zones = ['instance-tmp', 'tmp']"] {
        let config = config(&with_file(raw(&[], &[]), zones)).unwrap();
        assert_eq!(names(&config.zones), ["tmp", "instance-tmp"], "{zones}");
        assert_eq!(
            names(&config.all_zones),
            ["tmp", "instance-tmp", "legacy", "export", "chunk-cache"]
        );
    }
    let repeated = raw(&[("zones", "tmp"), ("zones", "cron_export_cache_directory_cleanup")], &[]);
    assert_eq!(names(&config(&repeated).unwrap().zones), ["export", "tmp"]);
}

#[test]
fn no_password_is_shown() {
    let secret = "redis://:hunter2@host:7000/1";
    let refused = error(&raw(&[("redis", secret)], &[]));
    assert!(refused.contains("command line") && !refused.contains("hunter2"), "{refused}");
    let config = config(&raw(&[], &[("SWEEPER_REDIS", secret)])).unwrap();
    assert_eq!(shown(&config, "redis").0, "redis://host:7000/1");
    assert!(config.locks.application.as_ref().unwrap().as_ref().unwrap().server.has_password());
    assert!(!format!("{config:?}").contains("hunter2"));
    for wrong in ["redis://:hunter2@", "http://:hunter2@host"] {
        for raw in [raw(&[("redis", wrong)], &[]), raw(&[], &[("SWEEPER_REDIS", wrong)])] {
            let error = error(&raw);
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

#[test]
fn the_redis_server_of_cvat_is_found_from_any_of_its_variables() {
    for (env, server, origin) in [
        (&[("CVAT_REDIS_INMEM_HOST", "r")][..], "redis://r:6379/0", "HOST"),
        (&[("CVAT_REDIS_INMEM_PORT", "7")], "redis://localhost:7/0", "PORT"),
        (&[("CVAT_REDIS_INMEM_PASSWORD", "hunter2")], "redis://localhost:6379/0", "PASSWORD"),
        (
            &[("CVAT_REDIS_INMEM_HOST", "r"), ("CVAT_REDIS_INMEM_PORT", "7")],
            "redis://r:7/0",
            "HOST",
        ),
    ] {
        let config = config(&raw(&[], env)).unwrap();
        let origin = format!("environment CVAT_REDIS_INMEM_{origin}");
        assert_eq!(shown(&config, "redis"), (server.to_owned(), origin));
        assert!(!config.locks.application.unwrap().unwrap().is_required);
    }
    let flags = [("lock", "redis"), ("redis", "redis://r"), ("cvat_data", "/home/django/data")];
    let plan =
        config(&raw(&flags, &[("CVAT_BASE_DIR", "/opt/cvat")])).unwrap().locks.application.unwrap();
    let plan = plan.unwrap();
    assert!(plan.is_required);
    assert_eq!(plan.data_root.as_deref(), Some(Path::new("/home/django/data")));
    assert_eq!(plan.own_roots[0], Path::new("/opt/cvat/data"));
    let none = raw(&[("lock", "none")], &[("SWEEPER_REDIS", "redis://r")]);
    let none = config(&none).unwrap().locks;
    assert_eq!((none.files, none.application.unwrap().is_none()), (FileLocks::Unlocked, true));
}

#[test]
fn settings_make_the_rules_of_the_zones() {
    let of = |flags: &[(&'static str, &str)]| config(&raw(flags, &[])).unwrap();
    for (word, last_use) in
        [("tree", LastUse::Tree), ("write", LastUse::Mtime), ("entry", LastUse::Entry)]
    {
        assert_eq!(of(&[("tmp_age", word)]).zones[1].last_use, last_use);
    }
    let week = of(&[("older_than", "7d"), ("retention", "2d")]);
    assert_eq!(week.legacy.unwrap().ttls, [Expiry::After(Ttl::from_secs(604_800))]);
    assert_eq!(week.zones[1].ttls, [Expiry::After(Ttl::from_secs(172_800))]);
    assert_eq!(week.zones[0].lock, LockKind::Application);
    let shard = config(&raw(&[("shard", "auto/4")], &[("JOB_COMPLETION_INDEX", "2")])).unwrap();
    assert_eq!(shown(&shard, "shard").0, "2/4");
    let named = of(&[("data", "/data"), ("if_running", "share"), ("dry_run", "")]);
    assert_eq!(named.data, Ok(DataRoot::Named("/data".into())));
    assert_eq!((named.if_running, named.dry_run), (Some(IfRunning::Share), true));
}

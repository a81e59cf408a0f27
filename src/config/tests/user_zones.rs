//! Zones of the settings file.

use super::*;

fn of_file(text: &str) -> RawSettings {
    with_file(raw(&[("data", "/data")], &[]), text)
}

/// A right zone with some lines replaced or added; an empty line takes one away.
fn table(changes: &[(&str, &str)]) -> String {
    let mut lines = vec![
        ("name", "name = 'labels'"),
        ("path", "path = 'exports'"),
        ("entry", "entry = 'file'"),
        ("names", "names = ['label-.*']"),
        ("ttl", "ttl = '7d'"),
    ];
    for (key, line) in changes {
        match lines.iter_mut().find(|(known, _)| known == key) {
            Some(known) => known.1 = line,
            None => lines.push((key, line)),
        }
    }
    let lines = lines.iter().filter(|(_, line)| !line.is_empty());
    lines.fold("[[zone]]\n".to_owned(), |all, (_, line)| all + line + "\n")
}

#[test]
fn zones_of_the_settings_file_are_swept_with_the_others() {
    let config = config(&of_file(TWO_ZONES)).unwrap();
    assert_eq!(names(&config.zones), ["export", "tmp", "labels", "scratch"]);
    assert_eq!(shown(&config, "zones").0, "export,tmp,labels,scratch");
    let [_, _, labels, scratch] = config.zones.as_slice() else { panic!() };
    assert_eq!(labels.location.roots, [Path::new("exports/labels")]);
    assert_eq!((labels.entry, labels.last_use), (EntryKind::File, LastUse::Mtime));
    assert_eq!((scratch.entry, scratch.last_use), (EntryKind::Tree, LastUse::Tree));
    assert_eq!(labels.lock, LockKind::Flock);
    assert_eq!(labels.ttls, [Expiry::After(Ttl::from_secs(604_800))]);
    assert!(labels.names.class_of(b"label-1").is_some() && labels.names.class_of(b"x").is_none());
    assert!(scratch.names.class_of(b"anything").is_some());
    let (value, origin) = shown(&config, "zone.labels");
    assert!(value.contains("ttl = \"7d\"") && value.contains("names = [\"label-.*\"]"), "{value}");
    assert_eq!(origin, "file \"/etc/s.toml\", line 2");

    let mut chosen = of_file(TWO_ZONES);
    chosen.flags.insert("zones", vec!["scratch,export".to_owned()]);
    assert_eq!(names(&super::config(&chosen).unwrap().zones), ["export", "scratch"]);
    chosen.flags.insert("exclude", vec!["exports/labels/label-7*".to_owned()]);
    assert!(super::config(&chosen).is_ok(), "the zone is not swept, but it is known");
}

#[test]
fn every_word_of_a_zone_is_understood() {
    for (word, last_use) in [
        ("mtime", LastUse::Mtime),
        ("tree", LastUse::Tree),
        ("atime", LastUse::Atime),
        ("entry", LastUse::Entry),
    ] {
        let text = table(&[("used", &format!("used = '{word}'")), ("lock", "lock = 'none'")]);
        let config = config(&of_file(&text)).unwrap();
        assert_eq!(
            (config.zones[2].last_use, config.zones[2].lock),
            (last_use, LockKind::Unlocked)
        );
    }
    let tree = config(&of_file(&table(&[("entry", "entry = 'tree'")]))).unwrap();
    assert!(tree.zones[2].names.class_of(b"other").is_none(), "names apply to trees too");
    let path = config(&of_file(&table(&[("path", "path = './a//b/'")]))).unwrap();
    assert_eq!(path.zones[2].location.roots, [Path::new("a/b")]);
    let none = config(&of_file(&table(&[("ttl", "ttl = '0'")]))).unwrap();
    assert_eq!(none.zones[2].ttls, [Expiry::After(Ttl::from_secs(0))]);
}

#[test]
fn what_is_wrong_in_a_table_is_refused_with_its_line() {
    for (key, line, number, words) in [
        ("name", "", 1, "name is missing"),
        ("path", "", 1, "path is missing"),
        ("entry", "", 1, "entry is missing"),
        ("ttl", "", 1, "ttl is missing"),
        ("names", "", 1, "names is missing"),
        ("name", "name = 'Labels'", 2, "a to z"),
        ("name", "name = ''", 2, "a to z"),
        ("name", "name = 'a_b'", 2, "a to z"),
        ("name", "name = 'tmp'", 2, "already a zone"),
        ("name", "name = 'legacy'", 2, "already a zone"),
        ("path", "path = ''", 3, "below the data root"),
        ("path", "path = '.'", 3, "below the data root"),
        ("path", "path = '/'", 3, "root of the file system"),
        ("path", "path = '../other'", 3, "no .."),
        ("path", "path = 'a/../../b'", 3, "no .."),
        ("path", "path = [\"a\", \"b\"]", 3, "write one value"),
        ("entry", "entry = 'any'", 4, "write file or tree"),
        ("names", "names = ['(zip']", 5, "not a regular expression"),
        ("names", "names = ['.*']", 5, "matches every name"),
        ("names", "names = ['a', '.+']", 5, "matches every name"),
        ("names", "names = []", 5, "no pattern"),
        ("ttl", "ttl = 7", 6, "write 7h for hours, 7d for days"),
        ("ttl", "ttl = 'soon'", 6, "ttl"),
        ("used", "used = 'ctime'", 7, "write mtime, tree, atime or entry"),
        ("lock", "lock = 'redis'", 7, "write flock or none"),
        ("ttls", "ttls = '7d'", 7, "did you mean ttl?"),
        ("age", "age = '7d'", 7, "there is no key \"age\"; did you mean ttl?"),
        ("size", "size = '7d'", 7, "there are name, path, entry, names, used, ttl, lock"),
        ("jobs", "jobs = 2", 7, "above the first [[zone]]"),
    ] {
        let error = error(&of_file(&table(&[(key, line)])));
        let place = format!("settings file \"/etc/s.toml\", line {number}: ");
        assert!(error.starts_with(&place) && error.contains(words), "{line}: {error}");
    }
    let job = table(&[("name", "name = 'cron'")]);
    assert!(config(&of_file(&job)).is_ok(), "only names of zones are taken");
    let twice = table(&[]) + &table(&[("path", "path = 'other'")]);
    assert!(error(&of_file(&twice)).contains("line 8: zone \"labels\": there is already a zone"));
}

#[test]
fn zones_that_overlap_are_refused() {
    for path in [
        "cache/export",
        "cache",
        "cache/export/sub",
        "tmp",
        "tmp/mine",
        "./tmp/",
        "tasks",
        "tasks/7/tmp",
        "tasks/7/export_cache",
        "jobs/7/other",
        "data",
        "data/7/raw",
        "assets",
        "storages",
        "models/x",
        "cache/events",
        "cache/000",
        "cache/031/x",
        "keys",
        "logs",
        "share",
        "/data",
        "/data/exports",
        "/",
        "/keys",
        "/logs/old",
    ] {
        let error = error(&of_file(&table(&[("path", &format!("path = '{path}'"))])));
        assert!(error.contains("line 3: zone \"labels\": path = "), "{path}: {error}");
    }
    for path in ["exports", "cache/other", "tmpx", "/mnt/x", "/data2", "projects2"] {
        let raw = of_file(&table(&[("path", &format!("path = '{path}'"))]));
        assert!(config(&raw).is_ok(), "{path}");
    }
    let second = table(&[("name", "name = 'second'"), ("path", "path = 'exports/sub'")]);
    let error = error(&of_file(&(table(&[]) + &second)));
    assert!(error.contains("line 9: zone \"second\""), "{error}");
    assert!(error.contains("overlaps \"exports\" of zone \"labels\""), "{error}");
    let absolute = |one: &str, other: &str| {
        let one = table(&[("path", &format!("path = '{one}'"))]);
        let other = table(&[("name", "name = 'b'"), ("path", &format!("path = '{other}'"))]);
        config(&of_file(&(one + &other))).is_ok()
    };
    assert!(!absolute("/mnt/a", "/mnt/a/b") && !absolute("/mnt/a", "/mnt/a"));
    assert!(absolute("/mnt/a", "/mnt/b") && absolute("exports", "/mnt/exports"));
}

#[test]
fn a_relative_data_root_is_compared_too() {
    let text = table(&[("path", "path = '/work/data/tmp/x'")]);
    let error = error(&with_file(raw(&[], &[]), &text));
    assert!(error.contains("below the data root \"/work/data\": write \"tmp/x\""), "{error}");
}

#[test]
fn without_a_profile_only_the_zones_of_the_file_are_known() {
    let text = format!("profile = 'none'\n{TWO_ZONES}");
    let env = [("CVAT_EXPORT_CACHE_TTL", "nonsense"), ("CVAT_REDIS_INMEM_HOST", "r")];
    let config = config(&with_file(raw(&[], &env), &text)).unwrap();
    assert_eq!(names(&config.zones), ["labels", "scratch"]);
    assert_eq!(names(&config.all_zones), ["labels", "scratch"]);
    assert!(config.legacy.is_none() && config.marks.is_empty());
    assert!(config.locks.application.as_ref().unwrap().is_none());
    assert_eq!(shown(&config, "data").0, "");
    let unnamed = config.data.unwrap_err().to_string();
    assert!(unnamed.contains("name it with --data"), "{unnamed}");
    // What is special to CVAT is not special here.
    let path = format!(
        "profile = 'none'\n{}",
        table(&[("path", "path = 'tmp'"), ("name", "name = 'tmp'")])
    );
    let found = super::config(&of_file(&path)).unwrap();
    assert_eq!(found.data, Ok(DataRoot::Named("/data".into())));
    assert_eq!(names(&found.zones), ["tmp"]);
    assert!(error(&of_file("profile = 'none'")).contains("there are no zones"));
    assert!(
        error(&with_file(raw(&[("zones", "export")], &[]), &text)).contains("no zone \"export\"")
    );
    let asked = error(&with_file(raw(&[("lock", "redis")], &[]), &text));
    assert!(asked.contains("use profile cvat"), "{asked}");
    let ttl = super::config(&with_file(raw(&[("ttl", "1h")], &[]), &text)).unwrap();
    assert!(ttl.warnings[0].contains("no effect with profile none"), "{:?}", ttl.warnings);
}

#[test]
fn a_service_needs_a_schedule_for_each_zone() {
    let plain = config(&of_file(TWO_ZONES)).unwrap().service.unwrap();
    let error = plain.schedule().unwrap_err().to_string();
    assert!(error.contains("zone \"labels\" has no schedule"), "{error}");
    for lines in ["every = '6h'", "schedule = ['labels=@daily', 'scratch=0 3 * * *']"] {
        let text = format!("{lines}\n{TWO_ZONES}");
        let service = config(&of_file(&text)).unwrap().service.unwrap();
        let zones = service.schedule().unwrap().zones;
        let zones: Vec<&str> = zones.iter().map(|(zone, _)| zone.as_str()).collect();
        assert_eq!(zones, ["export", "tmp", "labels", "scratch"], "{lines}");
    }
}

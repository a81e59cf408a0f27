//! Which directories are data roots, and which are refused.

use super::*;
use std::fs;

const MARKS: [&str; 2] = ["cache/export", "tmp"];

fn volume() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("data");
    fs::create_dir_all(root.join("cache/export")).unwrap();
    (scratch, root)
}

#[test]
fn system_directories_homes_and_the_program_are_refused() {
    let (scratch, root) = volume();
    let program = Some(scratch.path().join("bin/x"));
    let forbidden = Forbidden { homes: vec![root.clone()], program, unknown: None };
    for path in ["/", "/var", "/usr", "/etc", "/home", "/tmp/..", "/usr/local"] {
        let refused = DataRoot::open(Path::new(path), &[], &Forbidden::default());
        assert!(matches!(refused, Err(RootError::Refused { .. })), "{path}: {refused:?}");
    }
    assert!(matches!(DataRoot::open(&root, &MARKS, &forbidden), Err(RootError::Refused { .. })));
    let above = DataRoot::open(scratch.path(), &[], &forbidden);
    assert!(above.unwrap_err().to_string().contains("contains this program"));
    assert!(DataRoot::open(&root, &MARKS, &Forbidden::default()).is_ok());
}

#[test]
fn what_is_below_a_system_directory_is_refused_and_data_elsewhere_is_not() {
    let allow = |path: &Path| {
        let opened = DataRoot::open(path, &[], &Forbidden::default());
        opened.map(drop).map_err(|error| error.to_string())
    };
    let below = "/boot/grub /dev/pts /etc/ssl /etc/ssl/../ssl/certs /etc/systemd/system /lib/modules /lib/systemd \
                 /proc/1 /proc/self/task /sys/kernel /usr/lib /usr/local/bin /usr/share/doc /var/lib/apt/lists \
                 /var/lib/dpkg/info";
    let themselves = "/bin /dev/shm /lib64 /media /mnt /opt /run /run/lock /sbin /srv /tmp /usr/src /var/lib \
                      /var/lib/dpkg /var/lib/systemd /var/log /var/run /var/tmp";
    // Not every system has each of them.
    let all = below.split(' ').chain(themselves.split(' ')).filter(|path| Path::new(path).is_dir());
    let all: Vec<&str> = all.filter(|path| !path.is_empty()).collect();
    assert!(all.len() > 15, "{all:?}");
    for path in all {
        let said = allow(Path::new(path)).expect_err(path);
        assert!(said.contains("system directory"), "{path}: {said}");
    }
    // By a link, too.
    let scratch = tempfile::tempdir().unwrap();
    let link = scratch.path().join("link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    assert!(allow(&link).unwrap_err().contains("it is a system directory"));
    if Path::new("/etc/ssl").is_dir() {
        let said = allow(&link.join("ssl")).unwrap_err();
        assert!(said.contains("it is in the system directory \"/etc\""), "{said}");
    }
    for place in ["/tmp", "/var/tmp", "/dev/shm"] {
        if let Ok(below) = tempfile::tempdir_in(place) {
            assert_eq!(allow(below.path()), Ok(()));
        }
    }
}

#[test]
fn a_guard_that_cannot_tell_refuses() {
    let (scratch, root) = volume();
    let refused = |forbidden: &Forbidden| {
        let refused = DataRoot::open(&root, &MARKS, forbidden);
        assert!(matches!(refused, Err(RootError::Refused { .. })), "{refused:?}");
        refused.unwrap_err().to_string()
    };
    // A link that leads to itself: where the home directory is cannot be said.
    let home = scratch.path().join("home");
    std::os::unix::fs::symlink(&home, &home).unwrap();
    let said = refused(&Forbidden { homes: vec![home.clone()], ..Forbidden::default() });
    assert!(said.contains(&format!("{home:?}")) && said.contains("symbolic links"), "{said}");
    refused(&Forbidden { program: Some(home.join("bin/x")), ..Forbidden::default() });
    let unknown = Some("the list of users cannot be read".to_owned());
    let said = refused(&Forbidden { unknown, ..Forbidden::default() });
    assert!(said.contains("the list of users cannot be read"), "{said}");
    // What does not exist is no other directory.
    let none = vec!["/no/such".into(), root.join("tmp/file/x"), "".into()];
    let forbidden = Forbidden { homes: none, ..Forbidden::default() };
    assert!(DataRoot::open(&root, &MARKS, &forbidden).is_ok());
}

#[test]
fn a_root_takes_two_marks_or_a_name_and_the_first() {
    let (scratch, named) = volume();
    let lone = scratch.path().join("lone");
    fs::create_dir_all(lone.join("tmp")).unwrap();
    let none = Forbidden::default();
    let open = |path: &Path| DataRoot::open(path, &MARKS, &none);
    let find = |path: &PathBuf| DataRoot::find(std::slice::from_ref(path), &MARKS, &none);
    assert!(open(&named).is_ok(), "it is named and has the first mark");
    assert!(matches!(find(&named), Err(RootError::NoneFound { .. })));
    let said = open(&lone).unwrap_err().to_string();
    assert!(said.contains("it contains only tmp, and a data root has two of"), "{said}");
    let said = find(&lone).unwrap_err().to_string();
    assert!(said.contains("only tmp") && said.contains("--data DIR"), "{said}");
    fs::create_dir(named.join("tmp")).unwrap();
    assert!(find(&named).is_ok());
    // A file with the name of a mark is none, and a link to a directory is one.
    fs::write(lone.join("cache"), "x").unwrap();
    assert!(matches!(open(&lone), Err(RootError::NoMark { .. })));
    let linked = scratch.path().join("linked");
    fs::create_dir_all(linked.join("tmp")).unwrap();
    std::os::unix::fs::symlink(named.join("cache"), linked.join("cache")).unwrap();
    assert!(find(&linked).is_ok());
}

#[test]
fn a_mark_that_cannot_be_examined_ends_the_search() {
    let (scratch, good) = volume();
    fs::create_dir(good.join("tmp")).unwrap();
    let loops = scratch.path().join("loops");
    fs::create_dir(&loops).unwrap();
    std::os::unix::fs::symlink("tmp", loops.join("tmp")).unwrap();
    let found = DataRoot::find(&[loops.clone(), good], &MARKS, &Forbidden::default());
    assert!(matches!(found, Err(RootError::Unexamined { .. })), "{found:?}");
    assert!(found.unwrap_err().to_string().contains(&format!("{:?}", loops.join("tmp"))));
}

#[test]
fn a_data_root_has_a_mark_and_a_near_miss_is_named() {
    let (_scratch, root) = volume();
    let inside = DataRoot::open(&root.join("cache"), &MARKS, &Forbidden::default());
    let message = inside.unwrap_err().to_string();
    assert!(message.contains("did you mean") && message.contains("cache/export"), "{message}");
    fs::create_dir(root.join("tmp")).unwrap();
    let found = DataRoot::find(
        &[root.join("none"), root.join("cache"), root.clone()],
        &MARKS,
        &Forbidden::default(),
    );
    assert_eq!(found.unwrap().path(), root);
}

#[test]
fn a_mount_without_its_sub_path_and_a_new_volume_are_told_from_a_wrong_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let none = Forbidden::default();
    let named = |path: &Path| DataRoot::open(path, &MARKS, &none).unwrap_err();
    let found = |path: &Path| DataRoot::find(&[path.to_owned()], &MARKS, &none).unwrap_err();
    for error in [named(scratch.path()), found(scratch.path())] {
        assert!(error.may_pass() && !error.to_string().contains("subPath"), "{error}");
    }
    // As in the claim of a chart, with directories of other programs beside that of the data.
    for dir in ["keys", "data/tmp", "data/cache/export"] {
        fs::create_dir_all(scratch.path().join(dir)).unwrap();
    }
    for error in [named(scratch.path()), found(scratch.path())] {
        let said = error.to_string();
        assert!(error.may_pass() && said.contains("the mount lacks `subPath: data`"), "{said}");
    }
    let missing = scratch.path().join("missing");
    assert!(!named(&missing).may_pass() && !found(&missing).may_pass());
    assert!(!named(Path::new("/usr")).may_pass());
}

#[test]
fn a_directory_outside_must_be_outside() {
    let (scratch, root) = volume();
    let open = || DataRoot::open(&root, &MARKS, &Forbidden::default()).unwrap();
    let other = scratch.path().join("other");
    fs::create_dir(&other).unwrap();
    let link = scratch.path().join("link");
    std::os::unix::fs::symlink(root.join("cache"), &link).unwrap();
    let none = scratch.path().join("none");
    let with = |paths: &[&PathBuf]| {
        let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).clone()).collect();
        open().with_outside(&paths, &Forbidden::default())
    };
    let found = with(&[&other, &none]).unwrap();
    assert!(found.outside(&other).is_some() && found.outside(&none).is_none());
    assert_eq!(found.relative(&other.join("x/y")).unwrap(), Some(other.join("x/y")));
    assert_eq!(found.relative(&root.join("tmp/a")).unwrap(), Some("tmp/a".into()));
    assert_eq!(found.relative(scratch.path()).unwrap(), None);
    for bad in [&link, &root.join("cache"), &scratch.path().to_owned(), &"/var".into()] {
        assert!(with(&[bad]).is_err(), "{bad:?}");
    }
    // The same directory, or one in it, by a link.
    fs::create_dir(other.join("sub")).unwrap();
    for (name, target) in [("same", other.clone()), ("in-it", other.join("sub"))] {
        let link = scratch.path().join(name);
        std::os::unix::fs::symlink(target, &link).unwrap();
        assert!(with(&[&link]).is_ok() && with(&[&link, &other]).is_err());
    }
}

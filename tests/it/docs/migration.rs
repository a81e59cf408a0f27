//! What the migration guides say of other cleaners, held to these cleaners themselves.

use std::collections::BTreeSet;

use super::commands::{found, session_of};
use super::scene::Session;

/// The directory of the guide, and what is in it (`tests/docs/volume`).
const BUILDS: &str = "/srv/builds/artifacts";

/// What a session prints in the block that has a command.
fn printed_after<'a>(out: &'a str, place: &str) -> &'a str {
    let (_, after) = out.split_once(&format!("at {place}\n")).unwrap();
    after.split("\nat ").next().unwrap()
}

#[test]
fn the_guides_show_what_only_the_old_cleaner_would_remove() {
    let (_, blocks) = found().into_iter().find(|(page, _)| page == "docs/migration.md").unwrap();
    let place = |part: &str| {
        let has = |commands: &[String]| commands.iter().any(|command| command.contains(part));
        &blocks.iter().find(|(_, commands)| has(commands)).unwrap().0
    };
    let Some(run) = session_of(&blocks).run() else { return };
    let exports = "/var/lib/docker/volumes/cvat_cvat_data/_data/cache/export";
    // CVAT gives no export this name.
    let lists = printed_after(&run.exits(0).stdout, place("comm -13")).trim();
    assert_eq!(lists, format!("{exports}/notes.zip"));
    let why = printed_after(&run.stdout, place("xargs"));
    assert!(why.contains("notes.zip") && why.contains("does not recognize it"), "{why}");
    let ours = printed_after(&run.stdout, place("sweeper run --config /etc/sweeper-builds.toml"));
    assert!(ours.contains("would remove 1 of 5 entries"), "{ours}");
    let theirs = printed_after(&run.stdout, place("-not -newerat"));
    let listed: BTreeSet<&str> =
        theirs.lines().filter_map(|line| line.strip_prefix(BUILDS)).collect();
    let old = ["/build-1/old/image.bin", "/build-3/old/image.bin", "/latest", "/report.bin"];
    assert_eq!(listed, BTreeSet::from(old), "{theirs}");
    assert_eq!(theirs.matches("Pretending to remove file").count(), 3, "not the link: {theirs}");
}

/// What is left of the builds after a command, of everything that is not a directory.
fn left_after(command: &str) -> Option<BTreeSet<String>> {
    let mut session = Session::default();
    session.at("the builds");
    session.paste(
        "printf 'profile = \"none\"\\ndata = \"/srv/builds\"\\n[[zone]]\\nname = \"artifacts\"\\n\
         path = \"artifacts\"\\nentry = \"tree\"\\nused = \"tree\"\\nttl = \"30d\"\\nlock = \"flock\"\\n' > /sweeper.toml",
    );
    session.paste("echo 'e /srv/builds/artifacts - - - amM:30d' > /named-times.conf");
    session.paste("echo 'e /srv/builds/artifacts - - - 30d' > /all-times.conf");
    session.paste(command);
    session.paste("cd /srv/builds/artifacts");
    session.paste("echo left; find . -not -type d -printf '%P\\n'");
    let run = session.run()?;
    let (_, left) = run.exits(0).stdout.split_once("\nleft\n").unwrap();
    Some(left.lines().map(str::to_owned).collect())
}

/// Asserts what a command leaves.
#[track_caller]
fn assert_leaves(command: &str, files: &[&str]) {
    let Some(left) = left_after(command) else { return };
    let wanted: BTreeSet<String> = files.iter().map(|&file| file.to_owned()).collect();
    assert_eq!(left, wanted, "{command}");
}

const BUILD_1: &str = "build-1/old/image.bin";
const BUILD_2: &str = "build-2/new/image.bin";
const BUILD_3: [&str; 2] = ["build-3/new.bin", "build-3/old/image.bin"];

#[test]
fn tmpreaper_judges_each_file_and_keeps_links() {
    let tmpreaper = "tmpreaper --mtime 30d /srv/builds/artifacts";
    assert_leaves(tmpreaper, &[BUILD_2, BUILD_3[0], "latest"]);
    assert_leaves(
        &format!("exec 9< {BUILDS}/{BUILD_1}; {tmpreaper}"),
        &[BUILD_2, BUILD_3[0], "latest"],
    );
    assert_leaves("tmpreaper --mtime --symlinks 30d /srv/builds/artifacts", &[BUILD_2, BUILD_3[0]]);
}

#[test]
fn systemd_tmpfiles_judges_each_file_by_the_times_that_its_age_names() {
    let clean = "systemd-tmpfiles --clean /named-times.conf";
    assert_leaves(clean, &[BUILD_2, BUILD_3[0]]);
    assert_leaves(&format!("exec 9< {BUILDS}/{BUILD_1}; {clean}"), &[BUILD_2, BUILD_3[0]]);
    // A directory that is locked is left alone.
    assert_leaves(&format!("flock {BUILDS}/build-1 {clean}"), &[BUILD_1, BUILD_2, BUILD_3[0]]);
    // The files of the test were made just now, so the ctime keeps all of them.
    let all = [BUILD_1, BUILD_2, BUILD_3[0], BUILD_3[1], "latest", "report.bin"];
    assert_leaves("systemd-tmpfiles --clean /all-times.conf", &all);
}

#[test]
fn the_sweeper_judges_each_directory_as_a_whole() {
    let run = "sweeper run --config /sweeper.toml";
    let kept = [BUILD_2, BUILD_3[0], BUILD_3[1], "latest", "report.bin"];
    assert_leaves(run, &kept);
    let all = [&kept[..], &[BUILD_1]].concat();
    assert_leaves(&format!("exec 9< {BUILDS}/{BUILD_1}; {run}"), &all);
    assert_leaves(&format!("flock {BUILDS}/build-1 {run} --lock-wait 0"), &all);
}

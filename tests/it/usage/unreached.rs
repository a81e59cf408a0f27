//! What CVAT can no longer reach: old caches, and what is left of uploads.

use std::collections::BTreeMap;

use super::{du, measured};
use crate::world::{DAY, HOUR, Stat, World};

/// A name as CVAT gives it to an upload: Python makes the UUIDs of it in the same form.
fn upload(number: u32) -> String {
    format!("17_{number:08x}-6c1d-4f0a-9e4b-1234567890ab")
}

/// The entries of a part, their space, what has expired of it, and the command that removes it.
type Numbers = (u64, u64, u64, Option<String>);

/// Each part by kind and area.
fn parts(world: &World) -> BTreeMap<(String, String), Numbers> {
    let usage = measured(world, &[]);
    let parts = usage["unreachable"].as_array().unwrap().iter().map(|part| {
        let text = |key: &str| part[key].as_str().map(str::to_owned);
        let number = |key: &str| part[key].as_u64().unwrap();
        let numbers = (number("entries"), number("allocated_bytes"), number("expired_bytes"));
        let key = (text("kind").unwrap(), text("area").unwrap());
        (key, (numbers.0, numbers.1, numbers.2, text("removed_by")))
    });
    parts.collect()
}

#[test]
fn uploads_that_were_given_up_are_found_by_what_is_left_of_them() {
    let world = World::new();
    let file = |path: String, age: i64| {
        let path = world.file_of(path, age, &[b'x'; 9000]);
        Stat::of(&path).allocated()
    };
    // An upload at work: the content has an old atime, and its record was written a moment ago.
    file(format!("tmp/{}", upload(1)), 2 * DAY);
    file(format!("tmp/{}.meta", upload(1)), HOUR);
    // One that was uploaded a while ago and is not read yet.
    file(format!("tmp/{}", upload(2)), HOUR);
    // Two without progress, of which one has expired.
    let mut stalled = (0, 0);
    for (number, age) in [(3, 2 * DAY), (4, 20 * DAY)] {
        for end in ["", ".meta"] {
            let allocated = file(format!("tmp/{}{end}", upload(number)), age);
            stalled.0 += allocated;
            stalled.1 += if age > 14 * DAY { allocated } else { 0 };
        }
    }
    let lost = file(format!("tasks/7/tmp/{}", upload(5)), 2 * DAY);
    let record = file(format!("jobs/7/tmp/{}.meta", upload(6)), 20 * DAY);
    // Records that are left among media, and a picture whose name happens to look like an upload.
    let stray = file(format!("data/1/raw/{}.meta", upload(7)), 400 * DAY);
    file(format!("data/1/raw/{}", upload(8)), 400 * DAY);
    // Other names are no uploads, and what is in a directory is none.
    file("tmp/annotations.zip.meta".to_owned(), 20 * DAY);
    file(format!("tmp/tmpab12cd34/{}", upload(9)), 20 * DAY);
    let run = Some("sweeper run".to_owned());
    let on_request = Some("sweeper run --zones instance-tmp".to_owned());
    let expected = [
        ("upload_without_progress", "tmp", (4, stalled.0, stalled.1, run)),
        ("upload_without_record", "instance-tmp", (1, lost, 0, on_request.clone())),
        ("record_without_upload", "instance-tmp", (1, record, record, on_request)),
        ("record_without_upload", "media", (1, stray, 0, None)),
    ];
    let expected =
        expected.map(|(kind, area, numbers)| ((kind.to_owned(), area.to_owned()), numbers));
    assert_eq!(parts(&world), BTreeMap::from(expected));
    let text = world.run(&["usage"]).exits(0).stdout.clone();
    for words in [
        "no longer in use",
        "in tmp: sweeper run removes what has expired",
        "in instance-tmp: sweeper run --zones instance-tmp removes what has expired",
        "in media: never removed by this program",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn caches_of_earlier_versions_are_out_of_use_with_the_command_that_removes_them() {
    let world = World::new();
    assert!(parts(&world).is_empty());
    let old = 20 * DAY;
    world.file_of("tasks/7/export_cache/annotations_coco.ZIP", old, &[b'x'; 9000]);
    world.file_of("projects/3/tmp/export_cache/task_dump.zip", old, &[b'x'; 9000]);
    world.file_of("cache/007/ab/cd.val", HOUR, &[b'x'; 9000]);
    world.file("cache/other", old);
    let space = |paths: &[&str]| paths.iter().map(|path| du(&world.path(path)).0).sum::<u64>();
    let legacy = space(&["tasks/7/export_cache", "projects/3/tmp/export_cache"]);
    let expected = [
        ("legacy", (2, legacy, legacy, Some("sweeper legacy".to_owned()))),
        (
            "chunk-cache",
            (1, space(&["cache/007"]), 0, Some("sweeper run --zones chunk-cache".to_owned())),
        ),
    ];
    let expected =
        expected.map(|(area, numbers)| (("out_of_use".to_owned(), area.to_owned()), numbers));
    assert_eq!(parts(&world), BTreeMap::from(expected));
}

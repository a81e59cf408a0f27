//! What is in a data root of CVAT besides its zones, and what the names of exports say about them.
//!
//! This module must not decide whether anything is removed: nothing in these areas ever is.

use super::names::{Class, ExportName, LegacyName};
use super::uploads::{self, OUT_OF_USE};
use super::zones::{EXPORT, LEGACY};
use crate::rules::{Area, Label, Labels, Owner};

/// The areas, in the order of a report.
pub const AREAS: [Area; 3] = [
    Area { name: "media", about: "data and media of tasks", paths: &["data"] },
    Area { name: "assets", about: "files of annotation guides", paths: &["assets"] },
    Area {
        name: "events",
        about: "databases of audit events",
        paths: &["cache/events", "events.db", "logstash.db"],
    },
];

/// The labels of exports, of what is in old export caches, and of uploads.
pub const LABELS: Labels =
    Labels { entry, member, upload: uploads::upload, out_of_use: OUT_OF_USE };

fn entry(zone: &str, above: &[&[u8]], name: &[u8]) -> Option<Label> {
    match zone {
        EXPORT => of_export(name),
        LEGACY => {
            let [kind, id, ..] = above else { return None };
            let kind = match *kind {
                b"projects" => Class::Project,
                b"tasks" => Class::Task,
                b"jobs" => Class::Job,
                _ => return None,
            };
            Some(Label { owner: owner(kind, id), content: None })
        }
        _ => None,
    }
}

fn of_export(name: &[u8]) -> Option<Label> {
    Some(match ExportName::parse(name).ok()? {
        ExportName::Data { class, id, kind, .. } => {
            Label { owner: owner(class, id.bytes()), content: Some(kind) }
        }
        ExportName::Backup { class, id, .. } => {
            Label { owner: owner(class, id.bytes()), content: Some("backup") }
        }
        ExportName::Events { .. } => Label { owner: None, content: Some("events") },
    })
}

/// What a file in an old export cache holds. CVAT's first versions wrote annotations as `task_<format>`.
fn member(name: &[u8]) -> Option<&'static str> {
    match LegacyName::parse(name).ok()? {
        LegacyName::Stamped | LegacyName::Plain if name.starts_with(b"dataset") => Some("dataset"),
        LegacyName::Stamped | LegacyName::Plain => Some("annotations"),
        LegacyName::Backup => Some("backup"),
        LegacyName::Leftover => None,
    }
}

fn owner(class: Class, id: &[u8]) -> Option<Owner> {
    let id = std::str::from_utf8(id).ok()?.parse().ok()?;
    Some(Owner { kind: class.word(), id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_exports_say_what_they_belong_to_and_hold() {
        let label = |zone, above: &[&[u8]], name: &[u8]| {
            let label = (LABELS.entry)(zone, above, name)?;
            Some((label.owner.map(|owner| (owner.kind, owner.id)), label.content))
        };
        let export = |name: &str| label(EXPORT, &[b"cache", b"export"], name.as_bytes());
        for (name, owner, content) in [
            ("task-7-dataset-instance1.5-coco-10.zip", Some(("task", 7)), "dataset"),
            ("job-08-annotations-instance1.5-coco-10.zip", Some(("job", 8)), "annotations"),
            ("project-9-backup-instance1.5-lightweight.zip", Some(("project", 9)), "backup"),
            ("events-0b9b1f2e.csv", None, "events"),
        ] {
            assert_eq!(export(name), Some((owner, Some(content))), "{name}");
        }
        assert_eq!(export("task-7.zip"), None);
        let old = label(LEGACY, &[b"jobs", b"12"], b"export_cache");
        assert_eq!(old, Some((Some(("job", 12)), None)));
        assert_eq!(label(LEGACY, &[b"jobs", b"12", b"tmp"], b"export_cache"), old);
        assert_eq!(label("tmp", &[b"tmp"], b"task-7-dataset-instance1.5-coco-10.zip"), None);
        for (name, content) in [
            ("dataset-instance1732779070.857127-yolo-11.ZIP", Some("dataset")),
            ("annotations_cvat-for-images-11.ZIP", Some("annotations")),
            ("task_cvat.XML", Some("annotations")),
            ("task_dump.zip", Some("backup")),
            ("tmpab12cd34", None),
            ("notes.txt", None),
        ] {
            assert_eq!((LABELS.member)(name.as_bytes()), content, "{name}");
        }
    }
}

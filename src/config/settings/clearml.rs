//! The settings of `sweeper clearml`. Their keys begin with `clearml_`, their flags do not, and in the settings
//! file they stand in the table `[clearml]`.
//!
//! This module must not contain code: all that is said about a setting is in its row.

use super::{Setting, Takes, Use};

const CLEANS: &[Use] = &[Use::ClearmlRun, Use::ClearmlServe];
const SELECTS: &[Use] = &[Use::ClearmlRun, Use::ClearmlServe, Use::ClearmlWhy];
const WRITES: &[Use] = &[Use::ClearmlRun, Use::ClearmlServe, Use::ClearmlJournal];
const REMOVES: &[Use] = &[
    Use::ClearmlRun,
    Use::ClearmlServe,
    Use::ClearmlJournal,
    Use::ClearmlOrphans,
    Use::ClearmlWhy,
];

const LIMITS: &[Use] = &[Use::ClearmlRun, Use::ClearmlServe, Use::ClearmlOrphans];

const TASKS: &str = "Which tasks";
const GUARDS: &str = "What is protected";
const FILES: &str = "Files";
const SERVICE: &str = "Schedule and requests";

const BASE: Setting = Setting {
    key: "",
    default: None,
    takes: Takes::Nothing,
    choices: &[],
    used_by: SELECTS,
    group: TASKS,
    help: "",
};

/// Every setting of `sweeper clearml`, in the order of the help.
pub(super) static CLEARML: [Setting; 31] = [
    Setting {
        key: "clearml_delete_threshold_days",
        default: Some("30.0"),
        takes: Takes::One("DAYS"),
        help: "Delete archived tasks whose status has not changed for this many days; fractions are \
               allowed",
        ..BASE
    },
    Setting {
        key: "clearml_archived_age_cleanup_in_days",
        takes: Takes::One("DAYS"),
        help: "The old name of --delete-threshold-days",
        ..BASE
    },
    Setting {
        key: "clearml_force_delete",
        default: Some("false"),
        takes: Takes::OnOff,
        help: "Also delete tasks with published children or published models",
        ..BASE
    },
    Setting {
        key: "clearml_draft_only",
        help: "Delete only tasks that never ran (what force_delete=false once meant)",
        ..BASE
    },
    Setting {
        key: "clearml_project",
        takes: Takes::Many("PROJECT"),
        help: "Only tasks of this project and its subprojects, by name or id; repeat the flag for more",
        ..BASE
    },
    Setting {
        key: "clearml_tag",
        takes: Takes::Many("TAG"),
        help: "Only tasks with this tag; with several, tasks with all of them",
        ..BASE
    },
    Setting {
        key: "clearml_type",
        takes: Takes::Many("TYPE"),
        help: "Only tasks of this type, such as training",
        ..BASE
    },
    Setting {
        key: "clearml_user",
        takes: Takes::Many("ID"),
        help: "Only tasks of the user with this id",
        ..BASE
    },
    Setting {
        key: "clearml_name",
        takes: Takes::One("REGEX"),
        help: "Only tasks whose name contains a match of this regular expression",
        ..BASE
    },
    Setting {
        key: "clearml_status",
        takes: Takes::Many("STATUS"),
        help: "Only tasks with this status, such as failed",
        ..BASE
    },
    Setting { key: "clearml_hidden", help: "Also hidden tasks", ..BASE },
    Setting {
        key: "clearml_keep_last",
        default: Some("0"),
        takes: Takes::One("N"),
        help: "Keep the N newest of each project among the tasks that would be deleted",
        ..BASE
    },
    Setting {
        key: "clearml_delete_published",
        group: GUARDS,
        help: "Also delete published tasks",
        ..BASE
    },
    Setting {
        key: "clearml_delete_published_models",
        group: GUARDS,
        help: "Also delete published models of deleted tasks",
        ..BASE
    },
    Setting {
        key: "clearml_delete_running",
        group: GUARDS,
        help: "Also delete archived tasks that are queued or running",
        ..BASE
    },
    Setting {
        key: "clearml_delete_dataset_parents",
        group: GUARDS,
        help: "Also delete dataset versions on which other versions are based",
        ..BASE
    },
    Setting {
        key: "clearml_delete_shared_files",
        group: GUARDS,
        help: "Also delete files that another task or model refers to",
        ..BASE
    },
    Setting {
        key: "clearml_max_tasks",
        takes: Takes::One("N"),
        used_by: LIMITS,
        group: GUARDS,
        help: "Delete nothing if more than N tasks (orphans: the folders of more than N tasks) would be deleted",
        ..BASE
    },
    Setting {
        key: "clearml_max_share",
        takes: Takes::One("PCT"),
        used_by: LIMITS,
        group: GUARDS,
        help: "Delete nothing if more than this share of all archived tasks (orphans: of all tasks with \
               folders) would be deleted, such as 50%",
        ..BASE
    },
    Setting {
        key: "clearml_files",
        default: Some("http"),
        takes: Takes::One("HOW"),
        choices: &["http", "mount", "none"],
        used_by: WRITES,
        group: FILES,
        help: "Delete files through the file server, from its directory (--fileserver-root), or leave \
               them to the server",
    },
    Setting {
        key: "clearml_fileserver_root",
        takes: Takes::One("DIR"),
        used_by: REMOVES,
        group: FILES,
        help: "The directory of the file server, mounted here",
        ..BASE
    },
    Setting {
        key: "clearml_local_root",
        takes: Takes::Many("DIR"),
        used_by: WRITES,
        group: FILES,
        help: "Delete files on this machine (file:///...) below this directory; repeat the flag for \
               more [default: none]",
        ..BASE
    },
    Setting {
        key: "clearml_object_stores",
        default: Some("server"),
        takes: Takes::One("WHO"),
        choices: &["server", "nobody"],
        used_by: WRITES,
        group: FILES,
        help: "Who deletes files in S3, GCS and Azure: the server's own queue, or nobody",
    },
    Setting {
        key: "clearml_state",
        takes: Takes::One("DIR"),
        used_by: WRITES,
        group: FILES,
        help: "The directory of the journal [default: sweeper/clearml in $XDG_STATE_HOME or \
               ~/.local/state]",
        ..BASE
    },
    Setting {
        key: "clearml_grace",
        default: Some("7d"),
        takes: Takes::One("DUR"),
        used_by: &[Use::ClearmlOrphans],
        group: FILES,
        help: "Keep folders that were written to within this time",
        ..BASE
    },
    Setting {
        key: "clearml_orphans",
        used_by: CLEANS,
        group: FILES,
        help: "After each cleanup, also remove the folders of tasks that no longer exist",
        ..BASE
    },
    Setting {
        key: "clearml_cleanup_period_in_days",
        default: Some("1.0"),
        takes: Takes::One("DAYS"),
        used_by: CLEANS,
        group: SERVICE,
        help: "The time from the start of one cleanup to the start of the next",
        ..BASE
    },
    Setting {
        key: "clearml_run_as_service",
        takes: Takes::OnOff,
        used_by: CLEANS,
        group: SERVICE,
        help: "Keep running until told to stop, or clean up once [default: true for serve, false for run]",
        ..BASE
    },
    Setting {
        key: "clearml_compat_output",
        used_by: CLEANS,
        group: SERVICE,
        help: "Print the lines of ClearML's cleanup_service.py instead of the report",
        ..BASE
    },
    Setting {
        key: "clearml_connections",
        default: Some("8"),
        takes: Takes::One("N"),
        used_by: REMOVES,
        group: SERVICE,
        help: "How many requests to make at the same time, from 1 to 64",
        ..BASE
    },
    Setting {
        key: "clearml_request_timeout",
        default: Some("60s"),
        takes: Takes::One("DUR"),
        used_by: REMOVES,
        group: SERVICE,
        help: "The longest time for one request, from the connection to the last byte",
        ..BASE
    },
];

//! The longer texts of the help and the manual page.
//!
//! This module must not repeat the help of a setting, which is in the table of settings.

/// The last lines of `sweeper --help`.
pub(super) const HINT: &str = "Try `sweeper demo` first, then `sweeper run --dry-run`. \
    `sweeper <COMMAND> --help` lists the options of a command.

The disk is full? `sweeper usage` shows what takes up space. `sweeper run --pressure 85% --dry-run` shows how \
many exports would be removed until no more than 85% is in use.";

/// About `sweeper legacy`.
pub(super) const LEGACY: &str =
    "Remove the export caches that CVAT before 2.26 kept for each project, task and job";

/// About `sweeper usage`.
pub(super) const USAGE: &str =
    "Show what takes up space in a data root, what can be removed, and what expires when";

/// About `sweeper why`.
pub(super) const WHY: &str = "Explain which rule applies to each path and what a pass would do now";

/// About `sweeper config`.
pub(super) const CONFIG: &str = "Show the settings and where each one comes from";

/// About `sweeper health`.
pub(super) const HEALTH: &str =
    "Report in one line whether a service or the passes of a timer are healthy, for health checks";

/// About `sweeper merge`.
pub(super) const MERGE: &str = "Add up the reports of several shards";

/// About `sweeper demo`.
pub(super) const DEMO: &str =
    "Sweep a small sample data root in a temporary directory and explain the result";

/// About `sweeper hold`.
pub(super) const HOLD: &str =
    "Run a command while holding the lock that protects a path from a sweep";

/// About `sweeper clearml`.
pub(super) const CLEARML: &str =
    "Clean up a ClearML server: archived tasks, their models, artifacts and debug samples";

/// About `sweeper clearml run`.
pub(super) const CLEARML_RUN: &str = "Delete old archived tasks and their files once";

/// About `sweeper clearml serve`.
pub(super) const CLEARML_SERVE: &str =
    "Delete old archived tasks and their files on a schedule until told to stop";

/// About `sweeper clearml orphans`.
pub(super) const CLEARML_ORPHANS: &str =
    "Remove folders on the file server whose task no longer exists";

/// About `sweeper clearml journal`.
pub(super) const CLEARML_JOURNAL: &str = "Show or finish what earlier cleanups could not delete";

/// About `sweeper clearml why`.
pub(super) const CLEARML_WHY: &str = "Explain what a cleanup would do with each task";

/// After the help of a command of `sweeper clearml`: where the server and the keys are named, and these exit codes.
pub(super) fn clearml(codes: &str) -> String {
    format!(
        "\
The server and the keys are those of ClearML's own clients: CLEARML_API_HOST, CLEARML_API_ACCESS_KEY, \
CLEARML_API_SECRET_KEY, or ~/clearml.conf.
{codes}"
    )
}

/// The exit codes of the commands of `sweeper clearml` that clean up.
pub(super) const CLEARML_CODES: &str = "\
DUR is a duration with a unit, such as 36h, 14d or 1h30m.

Exit codes (the highest applies):
  0  the cleanup completed and nothing failed
  1  the cleanup completed and some tasks or files failed
  2  the usage or the settings are wrong, or no server is named; nothing was done
  3  the cleanup was stopped before its end, or more would have been deleted than is allowed
  4  the server or the journal could not be used, or another sweeper is at work";

/// The exit codes of the commands of `sweeper clearml` that explain.
pub(super) const CLEARML_ANSWERS: &str = "
The exit code is 0 on success, 1 if something failed, 2 if the usage or the settings are wrong, and 4 if the server \
or the journal cannot be used.";

/// How durations are written.
pub(super) const DURATIONS: &str = "DUR is a duration with a unit, such as 36h, 14d or 1h30m.";

/// After the help of commands that sweep, which may free space until the disk is not too full any more.
pub(super) fn exit_codes(relieves: bool) -> String {
    let too_full = if relieves { ", or the disk is still too full" } else { "" };
    format!(
        "\
DUR is a duration with a unit, such as 36h, 14d or 1h30m.

Exit codes (the highest applies):
  0  the pass completed and nothing failed
  1  the pass completed and some entries failed{too_full}
  2  the usage, the settings or the data root are wrong; nothing was done
  3  the pass was stopped before its end
  4  a lock backend could not be used, or another sweeper is at work; that zone was left alone"
    )
}

/// After the help of `sweeper why`.
pub(super) const WHY_CODES: &str = "\
DUR is a duration with a unit, such as 36h, 14d or 1h30m.

Nothing is changed. The exit code is 0 on success, 1 if a path cannot be looked at, and 2 if the usage, the settings or \
the data root are wrong.";

/// After the help of `sweeper usage`.
pub(super) const USAGE_CODES: &str = "\
DUR is a duration with a unit, such as 36h, 14d or 1h30m.

Nothing is changed. The exit code is 0 if everything was counted, 1 if some directories or files could \
not be looked at or the page could not be written, 2 if the usage, the settings or the data root are wrong, and 3 if the command was \
stopped before its end.";

/// After the help of `sweeper merge`.
pub(super) const MERGE_CODES: &str = "\
The exit code is the highest of those in the reports. It is at least 3 if the report of a shard is missing, and 2 \
if a report cannot be read or is not part of the same pass.";

/// After the help of `sweeper health`.
pub(super) const HEALTH_CODES: &str = "\
DUR is a duration with a unit, such as 36h, 14d or 1h30m.

The command asks a service for its health page, or reads the metrics file of single runs. The exit code is 0 if all is \
well, 1 if not or if there is no answer within 5 s, and 2 if the usage or the settings are wrong.";

/// After the help of `sweeper hold`.
pub(super) const HOLD_CODES: &str = "\
DUR is a duration with a unit, such as 36h, 14d or 1h30m.

The exit code is that of the command, or 126 if it cannot be run, 127 if it does not exist, 4 if the lock \
is not available, and 2 if the usage is wrong.";

/// The date of the manual page.
pub(super) const MAN_DATE: &str = "2026-01-15";

/// The description in the manual page.
pub(super) const MAN_DESCRIPTION: &str = r".SH DESCRIPTION
.B sweeper
removes files and directories that have expired: the exports and temporary files
of CVAT, and the entries of your own zones.
It takes the locks of the programs that use them, looks again under the lock, and
keeps what it does not recognize.
.B sweeper clearml
deletes archived tasks from a ClearML server, and their files.
.PP
A
.I zone
is a set of directories with one rule.
Each file or directory in them is an
.I entry\fR,
which is removed or kept as a whole.
";

/// The sections of the manual page after those of the commands.
pub(super) const MAN_SECTIONS: &str = r#".SH SETTINGS
The value of a setting comes from the first of these: the flag, the variable
.B SWEEPER_\fIFLAG
(in upper case, with underscores), the key in the settings file (with underscores),
and the default.
A duration in one of CVAT's variables comes after
.B SWEEPER_\fIFLAG\fR,
CVAT's other variables after the settings file.
An unknown flag, key or
.B SWEEPER_
variable is an error.
.B sweeper config
shows each setting and where it comes from.
.PP
.I DUR
is a duration with a unit, such as 36h, 14d or 1h30m.
CVAT's own variables keep their units: whole seconds or days.
.PP
A list is a repeated flag, a variable with commas, or an array in the settings
file.
.SH "ZONES OF THE SETTINGS FILE"
Each
.B [[zone]]
table adds a zone:
.PP
.nf
[[zone]]
name  = "label-exports"
path  = "exports"        # below the data root, or absolute
entry = "file"           # file | tree
names = ['label-\ed+\e.zip'] # regular expressions of names
used  = "mtime"          # mtime | tree | atime | entry
ttl   = "7d"
lock  = "flock"          # flock | none
.fi
.SH "EXIT STATUS"
The highest of these applies:
.TP
.B 0
The pass completed and nothing failed.
.TP
.B 1
The pass completed, and some entries failed or the disk is still too full.
.TP
.B 2
The usage, the settings or the data root are wrong.
Nothing was done.
.TP
.B 3
The pass was stopped before its end.
.TP
.B 4
A lock backend could not be used, or another sweeper is at work.
That zone was left alone.
.SH EXAMPLES
Show what a pass would remove:
.PP
.nf
sweeper run \-\-data /home/django/data \-\-dry\-run
.fi
"#;

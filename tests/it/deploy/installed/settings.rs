//! The settings module that puts the sweeper in the place of CVAT's own cleaners.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{checked, text_of};
use crate::deploy::{file, python_tool};

/// The periodic jobs as CVAT writes them. The third cleaner came after 2.73. Its id is not known, so it has one
/// here that says nothing.
pub const JOBS: &str = r#"
PERIODIC_RQ_JOBS = [
    {"queue": "cleaning", "id": name, "func": func, "cron_string": "0 0 * * *"}
    for name, func in (
        ("clean_up_sessions", "cvat.apps.iam.utils.clean_up_sessions"),
        ("cron_export_cache_directory_cleanup", "cvat.apps.dataset_manager.cron.cleanup_export_cache_directory"),
        ("cron_tmp_directory_cleanup", "cvat.apps.dataset_manager.cron.cleanup_tmp_directory"),
        ("a_new_id", "cvat.apps.dataset_manager.cron.cleanup_instance_tmp_directories"),
        ("cron_of_a_plugin", "plugin.cron.cleanup"),
        ("cleanup_tmp_directory", "plugin.cron.other"),
    )
]
"#;

/// Writes CVAT's settings, and the module beside them.
pub fn write(root: &Path, production: &str) {
    let settings = root.join("cvat/settings");
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("production.py"), format!("{production}\n{JOBS}")).unwrap();
    fs::copy(file("cvat/swept.py"), settings.join("swept.py")).unwrap();
}

#[test]
fn it_turns_off_cvats_three_cleaners_by_their_functions_and_nothing_else() {
    let Some(python) = python_tool("python") else { return };
    let scratch = tempfile::tempdir().unwrap();
    write(scratch.path(), "DEBUG = False\nINSTALLED_APPS = ['cvat.apps.engine']");
    let script = "from cvat.settings import swept; \
                  print(swept.DEBUG, *(job['id'] for job in swept.PERIODIC_RQ_JOBS)); \
                  print(*swept.INSTALLED_APPS)";
    let run = checked(Command::new(python).args(["-c", script]).current_dir(scratch.path()));
    let jobs = "False clean_up_sessions cron_of_a_plugin cleanup_tmp_directory";
    // Without the wheel there is no app, and CVAT starts all the same.
    assert_eq!(run.stdout, format!("{jobs}\ncvat.apps.engine\n"));
}

#[test]
fn the_documentation_shows_the_module_as_it_is() {
    let module = fs::read_to_string(file("cvat/swept.py")).unwrap();
    assert!(text_of("docs/deployment.md").contains(&format!("```python\n{module}```\n")));
}

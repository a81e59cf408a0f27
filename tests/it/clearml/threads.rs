//! The cleanup of a container with a limit on processes.

use serde_json::json;

use super::double::Double;
use super::seeds::{id, task};
use crate::threads::{LIMITS, assert_no_panic, can_limit, limited, new_user};
use crate::world::Run;

#[test]
fn clearmls_cleanup_looks_up_its_servers_without_a_thread_for_that() {
    if !can_limit() {
        return;
    }
    let user = new_user();
    for limit in LIMITS {
        let double = Double::new(json!({"tasks": [task("old", &[])]}));
        let mut command = double.command(&["run", "--connections", "4"]);
        // By name, which has to be looked up.
        for (name, address) in
            [("CLEARML_API_HOST", &double.api), ("CLEARML_FILES_HOST", &double.files)]
        {
            command.env(name, address.replace("127.0.0.1", "localhost"));
        }
        let state = double.path("state-of-the-cleanup");
        std::fs::create_dir(&state).unwrap();
        for path in [&state, &double.path(""), &double.path("home"), &double.path("files")] {
            std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
        }
        command.env("SWEEPER_CLEARML_STATE", &state);
        let run = Run::of(limited(limit, user, &command));
        assert_no_panic(&run, limit);
        if run.code == Some(2) {
            assert!(
                limit < 4 && run.stderr.contains("cannot start a thread"),
                "{limit}: {}",
                run.stderr
            );
        } else {
            run.exits(0);
            assert!(!double.left("tasks").contains(&id("old")), "{limit}: {}", run.stderr);
        }
    }
}

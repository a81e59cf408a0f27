//! The double of ClearML's servers (`tests/clearml/double.py`), started for one test, and the program run on it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::start::{Start, written};
use crate::wait::wait_until;
use crate::world::{NOW, Run, sweeper};

/// Both servers over one state.
pub struct Double {
    dir: tempfile::TempDir,
    child: Child,
    pub api: String,
    pub files: String,
}

impl Drop for Double {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Double {
    /// With these tasks alone.
    pub fn with_tasks(tasks: &[Value]) -> Self {
        Self::new(json!({"tasks": tasks}))
    }

    /// With this state. What is missing of it is empty.
    pub fn new(mut state: Value) -> Self {
        let empty = json!({
            "tasks": [], "models": [], "events": {}, "projects": [],
            "credentials": {"key": "key", "secret": "s3cret"},
        });
        for (key, value) in empty.as_object().unwrap() {
            if state.get(key).is_none() {
                state[key] = value.clone();
            }
        }
        let dir = tempfile::Builder::new().prefix("sweeper-clearml-").tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["files", "home"] {
            fs::create_dir(path(name)).unwrap();
        }
        written(|| fs::write(path("state.json"), state.to_string())).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clearml/double.py");
        let mut child = Command::new(python())
            .arg(program)
            .arg("--state")
            .arg(path("state.json"))
            .arg("--files")
            .arg(path("files"))
            .arg("--log")
            .arg(path("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .start()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the double says where it listens");
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self { api: text("api"), files: text("files"), dir, child }
    }

    /// A path in the directory of this test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file below the root of the file server.
    pub fn file(&self, path: &str) -> PathBuf {
        let file = self.path("files").join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        written(|| fs::write(&file, "x")).unwrap();
        file
    }

    /// The files that are left below the root of the file server.
    pub fn files_left(&self) -> BTreeSet<String> {
        let root = self.path("files");
        let entries = walkdir::WalkDir::new(&root).into_iter().map(Result::unwrap);
        let files = entries.filter(|entry| !entry.file_type().is_dir());
        files
            .map(|file| file.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    /// Asks the double itself.
    fn control(&self, method: &str, what: &str, body: &str) -> Value {
        let host = self.api.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            "{method} /_double/{what} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    /// The present state.
    pub fn state(&self) -> Value {
        self.control("GET", "state", "")
    }

    /// Replaces the state.
    pub fn load(&self, state: &Value) {
        self.control("POST", "state", &state.to_string());
    }

    /// The ids of the tasks or models that are left.
    pub fn left(&self, kind: &str) -> BTreeSet<String> {
        let state = self.state();
        let records = state[kind].as_array().unwrap().iter();
        records.map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Sets faults.
    #[expect(clippy::needless_pass_by_value, reason = "it is made for this")]
    pub fn faults(&self, faults: Value) {
        self.control("POST", "faults", &faults.to_string());
    }

    /// How many requests have met the faults that are set.
    pub fn hits(&self) -> u64 {
        let faults = self.control("GET", "faults", "");
        faults.as_array().unwrap().iter().map(|fault| fault["hits"].as_u64().unwrap()).sum()
    }

    /// Waits until a request has met one of them.
    pub fn wait_for_hit(&self) {
        wait_until("a request meets a fault", || self.hits() > 0);
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The bodies of the requests to an endpoint.
    pub fn bodies(&self, endpoint: &str) -> Vec<Value> {
        let path = format!("/{endpoint}");
        let requests = self.requests().into_iter();
        requests.filter(|it| it["path"] == path.as_str()).map(|it| it["body"].clone()).collect()
    }

    /// The program with the servers and keys in its environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = sweeper(&[&["clearml"], args].concat());
        command.env("HOME", self.path("home"));
        command.env("CLEARML_API_HOST", &self.api).env("CLEARML_FILES_HOST", &self.files);
        command.env("CLEARML_API_ACCESS_KEY", "key").env("CLEARML_API_SECRET_KEY", "s3cret");
        command
    }

    /// Runs `sweeper clearml run` at [`NOW`] with these flags, and reads its report.
    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(&[&["run", "--now", NOW, "--format", "json"], args].concat()))
    }

    /// Asserts that nothing was deleted: no task, no model, no file, and no request for that.
    #[track_caller]
    pub fn asserts_untouched(&self, before: &Value, files: &BTreeSet<String>) {
        let now = self.state();
        for kind in ["tasks", "models"] {
            assert_eq!(now[kind], before[kind]);
        }
        assert_eq!(self.files_left(), *files);
    }
}

/// The Python of the tests.
pub fn python() -> PathBuf {
    std::env::var_os("SWEEPER_TESTS_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

/// How many tasks and files a report says are removed.
pub fn removed(report: &Value) -> (u64, u64) {
    let count = |name| crate::world::zone(report, name)["removed"].as_u64().unwrap();
    (count("clearml-tasks"), count("clearml-files"))
}

//! Removes files through a file server.
//!
//! This module must not put a path that could be a directory into a batch: `/delete_many` removes directories with
//! everything in them. Such a path is sent alone, with DELETE, which refuses directories.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::error::{ApiError, CycleError};
use super::files::{At, Removal, Remover, Target};
use super::http::Method;
use super::server::MOST_SERVERS;
use super::tools::{Tools, is_over};
use super::urls::{encoded, folders_of, without_query};
use crate::rules::Bytes;

/// How many files are deleted by one request.
const BATCH: usize = 500;

/// How many steps below the folder of its task a file is at least.
const STEPS: usize = 2;

/// Why a file of this machine stays.
pub(super) const NO_ROOT: &str = "it is a path on a machine, and no --local-root allows it";

/// Why a file stays for now.
const LATE: &str = "the deadline came first";

/// Deletes through a file server.
#[derive(Debug, Default)]
pub struct HttpRemover {
    /// Servers that have no `/delete_many`.
    single: Arc<[AtomicBool; MOST_SERVERS]>,
}

/// The answer of `/delete_many`.
#[derive(Deserialize)]
struct Answer {
    deleted: HashMap<String, serde_json::Value>,
    #[serde(default)]
    errors: HashMap<String, Vec<String>>,
}

impl Remover for HttpRemover {
    fn remove(
        &mut self,
        tools: &Tools,
        targets: Vec<Target>,
        kept: &HashSet<String>,
    ) -> Result<Vec<(Target, Removal)>, CycleError> {
        let mut done = Vec::new();
        let mut batches: HashMap<usize, Vec<(Target, String)>> = HashMap::new();
        let mut jobs = Vec::new();
        let kept: BTreeSet<&str> = kept.iter().map(String::as_str).collect();
        for target in targets {
            match &target.at {
                At::Local(_) => done.push((target, Removal::Left(NO_ROOT.to_owned()))),
                At::Fileserver(server, path) => {
                    let (server, given) = (*server, encoded(path));
                    if is_surely_a_file(&target, path, &kept) && !self.is_single(server) {
                        batches.entry(server).or_default().push((target, given));
                    } else {
                        jobs.push((server, vec![(target, given)], false));
                    }
                }
            }
        }
        for (server, files) in batches {
            jobs.extend(in_batches(files).map(|part| (server, part, true)));
        }
        let (client, single) = (Arc::clone(&tools.client), Arc::clone(&self.single));
        let deadline = tools.deadline;
        let work = move |(server, files, is_batch)| {
            if is_over(deadline) {
                all_failed(files, LATE)
            } else if is_batch {
                delete_many(&client, &single, server, files)
            } else {
                one_by_one(&client, server, files)
            }
        };
        tools.pool.each(jobs, work, |results| done.extend(results))?;
        Ok(done)
    }
}

impl HttpRemover {
    fn is_single(&self, server: usize) -> bool {
        self.single.get(server).is_none_or(|it| it.load(Ordering::Relaxed))
    }
}

/// Cuts a list into what one request deletes. A part has no more memory than it needs.
fn in_batches<T>(items: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut items = items.into_iter();
    std::iter::from_fn(move || {
        let part: Vec<T> = items.by_ref().take(BATCH).collect();
        (!part.is_empty()).then_some(part)
    })
}

/// Whether a path is below the folder of its own task, as deep as files are, and nothing that stays is below
/// it.
fn is_surely_a_file(target: &Target, path: &[u8], kept: &BTreeSet<&str>) -> bool {
    let (folders, below) = folders_of(path);
    if target.is_alone || folders != [target.task] || below < STEPS {
        return false;
    }
    let inside = format!("{}/", without_query(&target.file.url));
    kept.range(&*inside..).next().is_none_or(|url| !url.starts_with(&inside))
}

type Results = Vec<(Target, Removal)>;

fn delete_many(
    client: &Client,
    single: &[AtomicBool; MOST_SERVERS],
    server: usize,
    files: Vec<(Target, String)>,
) -> Results {
    let base = &client.server().files[server];
    let paths: Vec<&String> = files.iter().map(|(_, given)| given).collect();
    let body = json!({"files": paths}).to_string();
    let url = format!("{base}/delete_many");
    let reply = match client.file(Method::Post, &url, body.as_bytes()) {
        Ok(reply) => reply,
        Err(error) => return all_failed(files, &error.to_string()),
    };
    if matches!(reply.status, 404 | 405) {
        if let Some(single) = single.get(server) {
            single.store(true, Ordering::Relaxed);
        }
        return one_by_one(client, server, files);
    }
    let status = reply.status;
    if status != 200 {
        return all_failed(files, &odd(&url, status));
    }
    let Ok(answer) =
        serde_json::from_reader::<_, Answer>(std::io::BufReader::new(reply.into_reader()))
    else {
        return all_failed(files, &odd(&url, status));
    };
    let mut errors: HashMap<&str, &str> = HashMap::new();
    for (reason, paths) in &answer.errors {
        errors.extend(paths.iter().map(|path| (path.as_str(), reason.as_str())));
    }
    let end = |(target, given): (Target, String)| {
        let removal = match errors.get(given.as_str()) {
            _ if answer.deleted.contains_key(&given) => Removal::Removed(Bytes(0)),
            Some(reason) if reason.to_ascii_lowercase().contains("not found") => Removal::Gone,
            Some(reason) => Removal::Failed(format!("the file server says {reason:?}")),
            None => Removal::Failed("the file server does not say what it did".to_owned()),
        };
        (target, removal)
    };
    files.into_iter().map(end).collect()
}

fn one_by_one(client: &Client, server: usize, files: Vec<(Target, String)>) -> Results {
    let base = &client.server().files[server];
    let delete = |(target, given): (Target, String)| {
        let url = format!("{base}/{given}");
        let removal = match client.file(Method::Delete, &url, b"") {
            Ok(reply) => match reply.status {
                status @ (200 | 204) => is_removed(reply.into_reader(), &url, status),
                404 => is_gone(reply.into_reader(), &url),
                405 | 501 => Removal::Failed(
                    "the file server cannot delete files: use --files mount on its machine"
                        .to_owned(),
                ),
                status => Removal::Failed(odd(&url, status)),
            },
            Err(error) => Removal::Failed(error.to_string()),
        };
        (target, removal)
    };
    files.into_iter().map(delete).collect()
}

/// A file server answers with the path in JSON. A page for people, such as the login page of a proxy, says nothing about
/// the file.
fn is_removed(body: impl Read, url: &str, status: u16) -> Removal {
    if beginning(body).starts_with('<') {
        return Removal::Failed(odd(url, status));
    }
    Removal::Removed(Bytes(0))
}

/// The beginning of an answer.
fn beginning(body: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = body.take(4096).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).trim().to_ascii_lowercase()
}

/// A file server says which file it has not found. Another server's 404 says nothing about the file.
fn is_gone(body: impl Read, url: &str) -> Removal {
    // A proxy in front of it also answers with "404 page not found" while the file server is away.
    let text = beginning(body);
    if text.starts_with("file ") && text.ends_with(" not found") {
        Removal::Gone
    } else {
        Removal::Failed(odd(url, 404))
    }
}

fn odd(url: &str, status: u16) -> String {
    let (url, server, why) = (url.to_owned(), "a ClearML file server", format!("status {status}"));
    ApiError::Foreign { url, server, why }.to_string()
}

fn all_failed(files: Vec<(Target, String)>, why: &str) -> Results {
    files.into_iter().map(|(target, _)| (target, Removal::Failed(why.to_owned()))).collect()
}

/// Says what would be removed, and asks the file server how long each file is. A removal through the server does not
/// say what the disk gets back, so neither does this.
#[derive(Debug, Default)]
pub struct HttpLook {
    /// How long the files are that would be removed.
    pub length: u64,
}

impl Remover for HttpLook {
    fn remove(
        &mut self,
        tools: &Tools,
        targets: Vec<Target>,
        _kept: &HashSet<String>,
    ) -> Result<Vec<(Target, Removal)>, CycleError> {
        let (client, deadline) = (Arc::clone(&tools.client), tools.deadline);
        let mut done = Vec::new();
        let look = move |target: Target| {
            let removal = match &target.at {
                At::Local(_) => Removal::Left(NO_ROOT.to_owned()),
                At::Fileserver(..) if is_over(deadline) => Removal::Failed(LATE.to_owned()),
                At::Fileserver(server, path) => {
                    let url = format!("{}/{}", client.server().files[*server], encoded(path));
                    match client.file(Method::Head, &url, b"") {
                        Ok(reply) if reply.status == 200 => {
                            return (target, Removal::Removed(Bytes(0)), reply.length);
                        }
                        Ok(reply) if reply.status == 404 => Removal::Gone,
                        Ok(reply) => Removal::Failed(odd(&url, reply.status)),
                        Err(error) => Removal::Failed(error.to_string()),
                    }
                }
            };
            (target, removal, None)
        };
        let length = &mut self.length;
        tools.pool.each(targets, look, |(target, removal, known)| {
            *length = length.saturating_add(known.unwrap_or(0));
            done.push((target, removal));
        })?;
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::{Kind, TaskFile};
    use super::super::rows::Id;
    use super::*;
    use crate::clearml::client::ClientOptions;
    use crate::clearml::pool::RequestPool;
    use crate::clearml::server::{Credentials, Server};
    use crate::rules::Moment;
    use std::time::{Duration, Instant};

    #[test]
    fn after_the_deadline_no_file_is_asked_to_go_or_asked_about() {
        let address = "http://127.0.0.1:1".to_owned();
        let server = Server {
            api: address.clone(),
            files: vec![address.clone()],
            roots: Vec::new(),
            credentials: Credentials::Token(String::new()),
            verify: true,
            origin: String::new(),
        };
        let options = ClientOptions {
            timeout: Duration::from_secs(1),
            connections: 1,
            stop: Arc::default(),
            clock: || Moment::from_unix(0, 0),
        };
        let tools = Tools {
            client: Arc::new(Client::new(server, options)),
            pool: RequestPool::start(1, Arc::default()).unwrap(),
            deadline: Some(Instant::now()),
        };
        let task = Id::parse(&"a".repeat(32)).unwrap();
        let file = TaskFile { url: format!("{address}/x"), kind: Kind::Artifact };
        let target = Target { task, file, at: At::Fileserver(0, b"x".to_vec()), is_alone: false };
        let removers: [&mut dyn Remover; 2] =
            [&mut HttpRemover::default(), &mut HttpLook::default()];
        for remover in removers {
            let done = remover.remove(&tools, vec![target.clone()], &HashSet::new()).unwrap();
            assert_eq!(done[0].1, Removal::Failed(LATE.to_owned()));
        }
    }

    #[test]
    fn the_requests_for_many_files_take_no_more_memory_than_the_files() {
        let parts: Vec<Vec<usize>> = in_batches((0..=10 * BATCH).collect()).collect();
        assert_eq!(parts.concat(), (0..=10 * BATCH).collect::<Vec<_>>());
        assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= BATCH));
        assert!(parts.iter().map(Vec::capacity).sum::<usize>() < 11 * BATCH + 1);
    }

    #[test]
    fn only_what_is_surely_a_file_of_the_task_goes_into_a_batch() {
        let task = Id::parse("0123456789abcdef0123456789abcdef").unwrap();
        let other = "f".repeat(32);
        let is_file = |path: &str, kept: &[&str]| {
            let url = format!("http://f/{path}?download=1");
            let at = At::Fileserver(0, path.as_bytes().to_vec());
            let file = TaskFile { url, kind: Kind::Artifact };
            let kept: Vec<String> = kept.iter().map(|path| format!("http://f/{path}")).collect();
            let kept = kept.iter().map(String::as_str).collect();
            let target = Target { task, file, at, is_alone: false };
            let is_file = is_surely_a_file(&target, path.as_bytes(), &kept);
            assert!(!is_surely_a_file(
                &Target { is_alone: true, ..target },
                path.as_bytes(),
                &kept
            ));
            is_file
        };
        let folder = format!("p/q/t.{task}");
        assert!(is_file(&format!("{folder}/artifacts/x/y"), &[]));
        assert!(is_file(&format!("{folder}/models/y"), &[]));
        for path in [
            "p".to_owned(),
            folder.clone(),
            format!("{folder}/models"),
            format!("p/t.{other}/artifacts/x/y"),
            format!("p/t.{other}/{folder}/artifacts/x"),
        ] {
            assert!(!is_file(&path, &[]), "{path}");
        }
        let kept = ["models/a", "models/m/best.pt", "models/z"].map(|it| format!("{folder}/{it}"));
        let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
        assert!(!is_file(&format!("{folder}/models/m"), &kept));
        assert!(is_file(&format!("{folder}/models/k"), &kept));
    }
}

//! What the address of a file says about where the file is.
//!
//! This module must not look for the file. A path is compared as bytes after `%XX` is read, which is how it lies on the
//! file server's disk.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::rows::Id;
use super::server::Server;

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On a file server: the number of the server, and the path below its root as on its disk.
    Fileserver(usize, Vec<u8>),
    /// On the disk of some machine.
    Local(PathBuf),
    /// In S3, GCS or Azure.
    Store,
    /// Nowhere that we delete, for this reason.
    Elsewhere(&'static str),
}

/// Where the file with this address is. `files` are the addresses of file servers.
pub fn place_of(url: &str, files: &[String]) -> Place {
    for (number, base) in files.iter().enumerate() {
        if let Some(rest) = below(url, base) {
            // The SDK leaves `#` and `?` in names of files as they are, so what follows is a part of the name.
            let path = decoded(rest);
            return if is_plain(&path) {
                Place::Fileserver(number, path)
            } else {
                Place::Elsewhere("its path is not a plain path, so it is not touched")
            };
        }
    }
    match url.split_once("://") {
        Some(("http" | "https", _)) => Place::Elsewhere(
            "it is on a host that is not the file server, so it is not touched; \
                CLEARML_FILES_HOST names the file server",
        ),
        Some(("s3" | "gs" | "azure", _)) => Place::Store,
        Some(("file", path)) => local(&decoded(path.strip_prefix("localhost").unwrap_or(path))),
        Some(_) => Place::Elsewhere("a file at such an address cannot be deleted"),
        None => local(url.as_bytes()),
    }
}

/// The rest of an address that begins with `base`. The scheme and the host are read in any case.
fn below<'u>(url: &'u str, base: &str) -> Option<&'u str> {
    let (start, rest) = (url.get(..base.len())?, url.get(base.len()..)?);
    let host = base.find("://").map_or(0, |at| at + 3);
    let host = base[host..].find('/').map_or(base.len(), |at| host + at);
    let (start, base) = (start.as_bytes(), base.as_bytes());
    let is_same =
        start[..host].eq_ignore_ascii_case(&base[..host]) && start[host..] == base[host..];
    rest.strip_prefix('/').filter(|_| is_same)
}

fn local(path: &[u8]) -> Place {
    if path.starts_with(b"/") && is_plain(&path[1..]) {
        Place::Local(PathBuf::from(OsStr::from_bytes(path)))
    } else {
        Place::Elsewhere("it is not an absolute path, so it is not touched")
    }
}

/// A web address up to what may be its query or fragment.
pub fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// Whether each step of a path is the name of something.
fn is_plain(path: &[u8]) -> bool {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    path.split(|byte| *byte == b'/').all(is_name)
}

/// Reads `%XX`. What is no such sequence stays as it is.
fn decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut path = Vec::with_capacity(rest.len());
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        path.extend_from_slice(&rest[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        let code = code.filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = code.and_then(|two| u8::from_str_radix(two, 16).ok());
        path.push(byte.unwrap_or(b'%'));
        rest = &rest[at + if byte.is_some() { 3 } else { 1 }..];
    }
    path.extend_from_slice(rest);
    path
}

/// Writes a path for an address, or for `/delete_many`, which reads `+` as a space: all but letters, digits
/// and `-._~/` is written as `%XX`.
pub fn encoded(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The ids of the task folders that a path goes through, and how many steps are below the last one.
pub fn folders_of(path: &[u8]) -> (Vec<Id>, usize) {
    let (mut ids, mut below) = (Vec::new(), 0);
    for name in path.split(|byte| *byte == b'/') {
        below += 1;
        if let Some(id) = Id::of_folder(name) {
            ids.push(id);
            below = 0;
        }
    }
    (ids, below)
}

/// Where the directory of the file server is, if it is where ClearML puts it, and what its web server puts before it.
const USUAL: [&str; 4] =
    ["files", "mnt/fileserver", "opt/clearml/data/fileserver", "opt/trains/data/fileserver"];

/// What may stand before the path of a file as it is on the disk of a file server: the path of the server's address,
/// behind any host, and its directory on some machine.
pub fn prefixes_of(server: &Server) -> Vec<Vec<u8>> {
    let roots = server.roots.iter().map(|root| plain(root.as_os_str().as_bytes()));
    let known = server.files.iter().map(|base| path_in(base)).chain(roots);
    let mut prefixes: Vec<Vec<u8>> = known.filter(|prefix| !prefix.is_empty()).collect();
    prefixes.extend(USUAL.map(|prefix| prefix.as_bytes().to_vec()));
    prefixes
}

/// How many of the directories of a file are compared, from the top.
const MOST_STEPS: usize = 64;

/// What a file is called that would be removed, and the directories that it is in: an address that means the file, or one
/// of these directories, has one of these names.
pub fn names_of(url: &str, files: &[String], prefixes: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut names = match place_of(url, files) {
        Place::Fileserver(_, path) => vec![name_at(&path)],
        Place::Local(_) | Place::Store | Place::Elsewhere(_) => names_in(url, prefixes),
    };
    for at in 0..names.len() {
        let name = names[at].clone();
        // An address may have thousands of steps.
        let ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').take(MOST_STEPS);
        names.extend(ends.map(|(end, _)| name[..end].to_vec()));
    }
    names
}

/// All files that an address may mean, by their names. It may be written in any way: with the name of another
/// host or port of the same server, below another path, as a path on a machine, with steps such as `..`, or with a query
/// at its end.
pub fn names_in(url: &str, prefixes: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    // In a bare path, `%XX` may be part of a name.
    for path in [path_in(url), path_in(without_query(url)), plain(url.as_bytes())] {
        let below =
            |prefix: &Vec<u8>| path.strip_prefix(&**prefix)?.strip_prefix(b"/").map(name_at);
        names.extend(prefixes.iter().filter_map(below));
        names.push(name_at(&path));
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The ids of the task folders that an address leads through, however it is written.
pub fn folders_in(url: &str) -> Vec<Id> {
    folders_of(&path_in(url)).0
}

/// Whether an address leads to something in the folder of this task, with and without a query at its end.
pub fn is_in_folder(url: &str, task: Id) -> bool {
    [url, without_query(url)].into_iter().all(|url| {
        let path = path_in(url);
        let dir = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        folders_of(&path[..dir]).0.contains(&task)
    })
}

/// The path of an address, from its host on, or from its bucket on. Steps that lead nowhere are left out.
fn path_in(url: &str) -> Vec<u8> {
    let is_web =
        |scheme: &str| ["http", "https", "file"].iter().any(|it| scheme.eq_ignore_ascii_case(it));
    let path = match url.split_once("://") {
        Some((scheme, rest)) if is_web(scheme) => rest.split_once('/').map_or("", |(_, path)| path),
        Some((_, rest)) => rest,
        None => url,
    };
    plain(&decoded(path))
}

/// A path without the steps that lead nowhere.
fn plain(path: &[u8]) -> Vec<u8> {
    let mut steps: Vec<&[u8]> = Vec::new();
    for step in path.split(|byte| *byte == b'/') {
        match step {
            b"" | b"." => {}
            b".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    steps.join(&b'/')
}

/// A file in the folder of a task is called after the task, wherever that folder is.
fn name_at(path: &[u8]) -> Vec<u8> {
    match folders_of(path) {
        (ids, below) if !ids.is_empty() => {
            let mut steps: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
            let id = ids[ids.len() - 1].to_string();
            let folder = steps.len() - below - 1;
            steps[folder] = id.as_bytes();
            [b"task:", &*steps[folder..].join(&b'/')].concat()
        }
        _ => [b"path:", path].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Credentials;
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn at(url: &str) -> Place {
        place_of(url, &["http://f:8081".to_owned(), "https://old".to_owned()])
    }

    #[test]
    fn what_is_no_sequence_stays_as_it_is() {
        for (text, path) in [
            ("", ""),
            ("%", "%"),
            ("a%4", "a%4"),
            ("%zz%+1", "%zz%+1"),
            ("%%41%", "%A%"),
            ("%41%42/%2525", "AB/%25"),
            ("%é%4é", "%é%4é"),
        ] {
            assert_eq!(decoded(text), path.as_bytes(), "{text}");
        }
    }

    #[test]
    fn only_addresses_of_the_file_servers_are_theirs() {
        let file = |number, path: &str| Place::Fileserver(number, path.as_bytes().to_vec());
        assert_eq!(at("http://f:8081/a/b.bin"), file(0, "a/b.bin"));
        assert_eq!(at("https://old/a%20b%2Bc%23.bin"), file(1, "a b+c#.bin"));
        assert_eq!(at("http://f:8081/e%2520f"), file(0, "e%20f"));
        for tail in ["?download=1", "#top", "?a#b"] {
            assert_eq!(at(&format!("http://f:8081/a%3F%23{tail}")), file(0, &format!("a?#{tail}")));
        }
        for other in ["http://f:80810/a", "http://f:8081.evil/a", "https://f:8081/a", "ftp://x/a"] {
            assert!(matches!(at(other), Place::Elsewhere(_)), "{other}");
        }
        for odd in ["", "a/../b", "a//b", "./a", "%2e%2e/a", "a/%2E%2E", "a%00", "a/"] {
            assert!(matches!(at(&format!("http://f:8081/{odd}")), Place::Elsewhere(_)), "{odd}");
        }
        for store in ["s3://b/k", "s3://h:9000/b/k", "gs://b/k", "azure://a.blob/c/k"] {
            assert_eq!(at(store), Place::Store);
        }
    }

    #[test]
    fn local_files_have_an_absolute_path() {
        for url in ["file:///data/a b", "file://localhost/data/a%20b", "/data/a b"] {
            assert_eq!(at(url), Place::Local("/data/a b".into()), "{url}");
        }
        for odd in ["data/a", "file://host/a", "/a/../b", "", "file://"] {
            assert!(matches!(at(odd), Place::Elsewhere(_)), "{odd}");
        }
    }

    #[test]
    fn a_path_is_written_so_that_both_ways_to_read_it_agree() {
        for (path, text) in [
            ("a b+c", "a%20b%2Bc"),
            ("e%20f.bin", "e%2520f.bin"),
            ("k#1?", "k%231%3F"),
            ("ä/~x", "%C3%A4/~x"),
        ] {
            assert_eq!(encoded(path.as_bytes()), text);
            assert_eq!(decoded(text), path.as_bytes());
        }
    }

    #[test]
    fn the_folder_of_a_task_is_found_at_any_depth() {
        let path = format!("a/b/t.{ID}/artifacts/x/y.bin");
        let id = Id::parse(ID).unwrap();
        assert_eq!(folders_of(path.as_bytes()), (vec![id], 3));
        assert_eq!(folders_of(b"a/b"), (vec![], 2));
    }

    #[test]
    fn only_what_is_below_the_folder_of_a_task_is_in_it() {
        let (id, other) = (Id::parse(ID).unwrap(), "f".repeat(32));
        for path in [
            format!("p/t.{ID}/x"),
            format!("p/t.{ID}/artifacts/x/x.bin?download=1"),
            format!("long.{other}/t.{ID}/x"),
            format!("t.{ID}/metrics/m.{other}/x"),
            format!("a/../t.{ID}/x"),
        ] {
            assert!(is_in_folder(&format!("http://f/{path}"), id), "{path}");
            assert!(is_in_folder(&format!("s3://bucket/{path}"), id), "{path}");
        }
        for path in [
            "x".to_owned(),
            "shared/logo.png".to_owned(),
            format!("t.{other}/x"),
            format!("p/t.{ID}"),
            format!("p/t.{ID}/"),
            format!("p/t.{ID}/../x"),
            format!("p/t.{ID}/a/../../x"),
            format!("p/t.{ID}/%2e%2e/x"),
            format!("p/x?t.{ID}/x"),
            format!("p/x#/t.{ID}/x"),
        ] {
            assert!(!is_in_folder(&format!("http://f/{path}"), id), "{path}");
        }
    }

    #[test]
    fn a_file_is_recognized_in_every_way_to_write_its_address() {
        let files = ["http://f:8081".to_owned(), "https://ml.example/clearml/files".to_owned()];
        let prefixes = prefixes_of(&Server {
            api: String::new(),
            files: files.to_vec(),
            roots: vec!["/srv/./files/".into(), "/".into()],
            credentials: Credentials::Token(String::new()),
            verify: true,
            origin: String::new(),
        });
        for path in [format!("p/t.{ID}/artifacts/x/y.bin"), "uploads/x/y.bin".to_owned()] {
            let same = [
                format!("http://f:8081/{path}"),
                format!("http://f:8081/{}", path.replace('x', "%78")),
                format!("HTTP://F:8081/{path}"),
                format!("http://user:secret@f:8081/{path}"),
                format!("https://files.example/{path}"),
                format!("http://[::1]:8081/{path}"),
                format!("https://web.example/files/{path}"),
                format!("https://ml.example/clearml/files/{path}"),
                format!("http://ml.internal/clearml/files/{path}"),
                format!("http://f:8081//{path}"),
                format!("http://f:8081/a/../{path}"),
                format!("http://f:8081/%2e/a/%2e%2e/{path}"),
                format!("http://f:8081/{path}?download=1"),
                format!("http://f:8081/{path}#top"),
                format!("/srv/files/{path}"),
                format!("file:///srv/files/{}", path.replace('x', "%78")),
                format!("/opt/clearml/data/fileserver/{path}"),
            ];
            let is_same = |one: &str, other: &str| {
                let names = names_of(one, &files, &prefixes);
                names_in(other, &prefixes).iter().any(|name| names.contains(name))
            };
            for url in &same {
                assert!(is_same(&same[0], url), "{url}");
                // As the address of a file that goes, it is that of another one.
                let has_tail = without_query(url) != url;
                assert_eq!(is_same(url, &same[0]), !has_tail, "{url}");
            }
            let (longer, below) = (format!("{}x", same[0]), format!("{}/z", same[0]));
            assert!(!is_same(&same[0], &longer) && !is_same(&longer, &same[0]), "{longer}");
            // What means a directory also means what is in it.
            assert!(!is_same(&same[0], &below) && is_same(&below, &same[0]), "{below}");
        }
        let names = names_of("/srv/files/a%20b", &files, &prefixes);
        assert!(names.contains(&names_of("http://f:8081/a%2520b", &files, &prefixes)[0]));
    }

    #[test]
    fn the_host_of_a_file_server_is_read_in_any_case_and_its_path_is_not() {
        let files = ["http://f:8081/Files".to_owned()];
        assert!(matches!(place_of("HTTP://F:8081/Files/a", &files), Place::Fileserver(0, _)));
        for other in
            ["http://f:8081/files/a", "http://f:8081/Filesa", "http://u@f:8081/Files/a", "http://ä"]
        {
            assert!(matches!(place_of(other, &files), Place::Elsewhere(_)), "{other}");
        }
    }
}

//! The page of `usage --html`, as a browser shows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::volume;
use crate::company::has_tool;
use crate::start::Start;
use crate::world::{NOW, Run, sweeper};

/// Writes a page of this data root, and returns what `--format json` says at the same time.
fn page(root: &Path, file: &Path) -> Value {
    let mut command = sweeper(&["usage", "--format", "json", "--now", NOW, "--html"]);
    command.arg(file).arg("--data").arg(root);
    Run::of(command).exits(0).json()
}

/// The document as a browser has read it.
fn read_by_browser(file: &Path, profile: &Path) -> String {
    let mut browser = Command::new("chromium");
    browser.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
    browser.arg(format!("--user-data-dir={}", profile.display()));
    browser.arg(format!("file://{}", file.display()));
    let run = Run::from(browser.finish().unwrap());
    run.exits(0).stdout.clone()
}

/// The number in the first cell of a class, in the row of a table.
#[track_caller]
pub fn number(page: &str, table: &str, row: &str, class: &str) -> u64 {
    let (_, table) = page.split_once(&format!("id=\"{table}\"")).expect(table);
    let table = table.split("</table>").next().unwrap();
    let (_, row) = table.split_once(&format!("data-name=\"{row}\"")).expect(row);
    let (_, cell) = row.split_once(&format!("class=\"n {class}\">")).expect(class);
    let (_, value) = cell.split_once("value=\"").unwrap();
    value.split('"').next().unwrap().parse().unwrap()
}

#[test]
fn a_browser_reads_the_numbers_that_json_has() {
    if !has_tool("chromium", "a page in a browser") {
        return;
    }
    let world = volume(70);
    // The path is no markup, whatever is in it.
    let root = world.root.parent().unwrap().join("<script>document.title='ran'<\\script>&lt;\"'");
    fs::rename(&world.root, &root).unwrap();
    let (dir, file) = (world.root.parent().unwrap(), world.root.parent().unwrap().join("u.html"));
    let usage = page(&root, &file);
    let read = read_by_browser(&file, &dir.join("profile"));
    fs::rename(&root, &world.root).unwrap();
    assert!(read.contains("<title>What takes up space</title>"), "{read}");
    assert!(!read.contains("<script"), "{read}");
    assert!(read.contains("&lt;script&gt;document.title="), "{read}");
    for area in usage["areas"].as_array().unwrap() {
        let name = area["area"].as_str().unwrap();
        assert_eq!(area["allocated_bytes"], number(&read, "areas", name, "allocated"), "{name}");
        assert_eq!(area["inodes"], number(&read, "areas", name, "wide inodes"), "{name}");
        if area["removed_by"].is_string() {
            assert_eq!(
                area["expired_bytes"],
                number(&read, "areas", name, "expired-bytes"),
                "{name}"
            );
        }
    }
    for owner in usage["owners"].as_array().unwrap() {
        let name = format!("{} {}", owner["owner"].as_str().unwrap(), owner["id"]);
        assert_eq!(owner["allocated_bytes"], number(&read, "owners", &name, "allocated"), "{name}");
    }
    for range in usage["ages"].as_array().unwrap() {
        let bytes = format!("<data value=\"{}\">", range["allocated_bytes"]);
        assert!(read.contains(&bytes), "{bytes}");
    }
}

#[test]
fn the_page_allows_its_own_style_and_nothing_else() {
    if !has_tool("openssl", "the hash of a style sheet") {
        return;
    }
    let world = volume(71);
    let (dir, style) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let file = dir.path().join("u.html");
    page(&world.root, &file);
    let text = fs::read_to_string(&file).unwrap();
    let (_, css) = text.split_once("<style>").unwrap();
    fs::write(style.path(), css.split("</style>").next().unwrap()).unwrap();
    let mut openssl = Command::new("sh");
    openssl.arg("-c").arg("openssl dgst -sha256 -binary \"$0\" | openssl base64").arg(style.path());
    let hash = Run::of(openssl).exits(0).stdout.trim().to_owned();
    let policy = format!("default-src &#39;none&#39;; style-src &#39;sha256-{hash}&#39;;");
    assert!(text.contains(&policy), "the hash of the style is {hash}");
}

#[test]
fn a_page_replaces_an_earlier_page_and_nothing_else() {
    let world = volume(72);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let write = |file: PathBuf| world.run(&["usage", "--html", file.to_str().unwrap()]);
    fs::write(path("empty.html"), "").unwrap();
    for name in ["new.html", "empty.html"] {
        write(path(name)).exits(0);
        let first = fs::read_to_string(path(name)).unwrap();
        write(path(name)).exits(0);
        assert!(first.starts_with("<!doctype html>") && first.ends_with("</html>\n"), "{name}");
    }
    fs::write(path("other.html"), "<!doctype html>\n<p>mine").unwrap();
    std::os::unix::fs::symlink(path("new.html"), path("link.html")).unwrap();
    crate::world::fifo(&path("fifo"), 0);
    for (file, said) in [
        (path("other.html"), "it is not a page of `sweeper usage`: choose another name"),
        (path("link.html"), "it is not a regular file"),
        (path("fifo"), "it is not a regular file"),
        (path(""), "it is not a regular file"),
        (path("none/x.html"), "cannot find its directory: No such file or directory"),
        (world.path("tmp/x.html"), "it is in the data root: write the page elsewhere"),
        (PathBuf::from("/"), "it names no file"),
        (path("new/"), "its path ends with \"/\""),
        (PathBuf::from("-"), "stdout is used for the numbers; name a file"),
    ] {
        let run = write(file.clone());
        assert!(run.exits(2).stderr.contains(said), "{file:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "nothing was measured");
    }
    assert_eq!(fs::read_to_string(path("other.html")).unwrap(), "<!doctype html>\n<p>mine");
    // Nothing else is left behind, and the page can be read by whom the umask allows.
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["empty.html", "fifo", "link.html", "new.html", "other.html"]);
    let wrong = world.run(&["run", "--dry-run", "--html", "x.html"]);
    assert!(wrong.exits(2).stderr.contains("--html"), "{}", wrong.stderr);
}

#[test]
fn a_page_that_cannot_be_put_in_its_place_is_an_error_and_the_rest_is_printed() {
    if !has_tool("strace", "a page that cannot be renamed") {
        return;
    }
    let world = volume(73);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("u.html");
    let command = world.command(&["usage", "--format", "json", "--html", file.to_str().unwrap()]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", "inject=rename,renameat,renameat2:error=ENOSPC"]);
    strace.arg(command.get_program()).args(command.get_args()).env_clear();
    let run = Run::of(strace);
    let said = format!("cannot write the page {file:?}: No space left on device");
    assert!(run.exits(1).stderr.contains(&said), "{}", run.stderr);
    assert_eq!(run.json()["totals"], super::measured(&world, &[])["totals"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

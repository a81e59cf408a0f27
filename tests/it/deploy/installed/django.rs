//! The wheel in a real Django project that is laid out like CVAT.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::{checked, lines_below, released, settings};
use crate::deploy::{file, python_tool};
use crate::start::{Start, written};
use crate::world::{DAY, Run, World, is_present, set_age};

/// A project made by `django-admin startproject`, with CVAT's settings and the settings module of the sweeper.
struct Project {
    _scratch: tempfile::TempDir,
    root: PathBuf,
    /// Where the wheel is unpacked.
    wheel: PathBuf,
    python: PathBuf,
    /// Where another Django than that of `python` is.
    django: Option<PathBuf>,
}

/// Unpacks the wheel as the documentation does, once for all tests.
fn wheel() -> Option<&'static Path> {
    static DIR: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let (python, released) = (python_tool("python")?, released()?);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wheel");
        let _ = fs::remove_dir_all(&dir);
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-index", "--find-links"]);
        checked(pip.arg(released).arg("--target").arg(&dir).arg("retention-sweeper"));
        Some(dir)
    });
    DIR.as_deref()
}

impl Project {
    fn new() -> Option<Self> {
        Self::with_django(None)
    }

    fn with_django(django: Option<PathBuf>) -> Option<Self> {
        let (wheel, python) = (wheel()?, python_tool("python")?);
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("project");
        fs::create_dir(&root).unwrap();
        let mut start = Command::new(&python);
        start.env("PYTHONPATH", django.as_deref().unwrap_or(Path::new("")));
        start.args(["-m", "django", "startproject", "cvat"]).arg(&root);
        checked(&mut start);
        let made = fs::read_to_string(root.join("cvat/settings.py")).unwrap();
        fs::remove_file(root.join("cvat/settings.py")).unwrap();
        // As CVAT names the directory above its data.
        let own = "BASE_DIR = Path(__file__).resolve().parent.parent.parent\n\
                   DATA_ROOT = BASE_DIR / 'data'";
        settings::write(&root, &format!("{made}\n{own}"));
        World::at(&root.join("data"));
        Some(Self { _scratch: scratch, root, wheel: wheel.to_owned(), python, django })
    }

    /// What `manage.py` says, started in another directory than that of the project.
    fn manage(&self, args: &[&str]) -> Run {
        self.shell(&format!("exec python {}/manage.py \"$@\"", self.root.display()), args)
    }

    /// What a line of shell says, with the variables of the documentation.
    fn shell(&self, line: &str, args: &[&str]) -> Run {
        let bin = self.python.parent().unwrap().display();
        let mut shell = Command::new("sh");
        shell.args(["-euc", line, "sh"]).args(args).env_clear().current_dir("/");
        shell.env("PATH", format!("{bin}:/usr/bin:/bin")).env("PYTHONDONTWRITEBYTECODE", "1");
        let django = self.django.iter().map(PathBuf::as_path);
        let modules = std::env::join_paths(django.chain([self.wheel.as_path()])).unwrap();
        shell.env("PYTHONPATH", modules).env("DJANGO_SETTINGS_MODULE", "cvat.settings.swept");
        Run::from(shell.finish().unwrap())
    }

    /// A legacy export cache of a task.
    fn cache(&self, task: u32) -> PathBuf {
        let dir = self.root.join(format!("data/tasks/{task}/export_cache"));
        fs::create_dir_all(&dir).unwrap();
        written(|| fs::write(dir.join("dataset_coco-10.ZIP"), "abcd")).unwrap();
        set_age(&dir.join("dataset_coco-10.ZIP"), 400 * DAY);
        dir
    }

    /// The same project with a program in place of the binary, which prints how it was started.
    fn with_an_echo(mut self) -> Self {
        let wheel = self.root.join("wheel");
        let mut copy = Command::new("cp");
        checked(copy.arg("-r").arg(&self.wheel).arg(&wheel));
        self.wheel = wheel;
        let echo = format!(
            "#!{}\nimport os, sys\nprint(os.getpid(), sys.argv[1:])\nsys.exit(7)\n",
            self.python.display()
        );
        let path = self.binary();
        fs::remove_file(&path).unwrap();
        written(|| fs::write(&path, echo)).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        self
    }

    fn binary(&self) -> PathBuf {
        self.wheel.join("sweeper_django/bin/sweeper")
    }
}

#[test]
fn the_lines_of_the_documentation_remove_old_export_caches() {
    let Some(project) = Project::new() else { return };
    let cache = project.cache(1);
    let lines = lines_below("docs/deployment.md", "### Python wheel and Django");
    let (_, lines) = lines.split_once("\npython manage.py").unwrap();
    let lines = lines.split("\n\n").next().unwrap();
    let all = format!("cd {}\npython manage.py{lines}", project.root.display());
    let (dry, real) = all.split_once("--dry-run").unwrap();
    let run = project.shell(&format!("{dry}--dry-run"), &[]);
    assert!(run.exits(0).stdout.contains("would remove 1 of 1 entry"), "{}", run.stdout);
    assert!(cache.exists());
    let run = project.shell(&format!("cd {}\n{real}", project.root.display()), &[]);
    assert!(run.exits(0).stdout.contains("removed 1 of 1 entry"), "{}", run.stdout);
    assert!(!cache.exists());
}

#[test]
fn the_command_is_that_of_the_binary_with_its_reports_errors_and_codes() {
    if let Some(project) = Project::new() {
        assert_that_of_the_binary(&project);
    }
}

#[test]
fn it_is_so_with_the_django_of_older_versions_of_cvat_too() {
    let django = std::env::var_os("SWEEPER_TESTS_DJANGO").map(PathBuf::from);
    if !is_present(django.is_some(), "SWEEPER_TESTS_DJANGO, a directory with Django 4.2") {
        return;
    }
    let Some(project) = Project::with_django(django) else { return };
    assert!(project.manage(&["version"]).exits(0).stdout.starts_with("4.2."));
    assert_that_of_the_binary(&project);
}

/// Asserts that `manage.py exportcachecleanup` is `sweeper legacy`, and that other commands are what they were.
fn assert_that_of_the_binary(project: &Project) {
    let cache = project.cache(1);
    // The data root comes from Django's settings.
    let run = project.manage(&["exportcachecleanup", "--dry-run", "--format", "json"]);
    let report = run.exits(0).json();
    assert_eq!(report["command"], "legacy");
    assert_eq!(report["data_root"], project.root.join("data").to_str().unwrap());
    // An option of the sweeper wins over it.
    let other = World::new();
    let run = project.manage(&["exportcachecleanup", "--data", other.root.to_str().unwrap()]);
    run.exits(0);
    assert!(cache.exists());
    let run = project.manage(&["exportcachecleanup", "--olderthan", "90d"]);
    assert!(run.exits(2).stderr.contains("--older-than"), "{}", run.stderr);
    for args in [["exportcachecleanup", "--help"], ["help", "exportcachecleanup"]] {
        let run = project.manage(&args);
        assert!(run.exits(0).stdout.contains("Usage: exportcachecleanup"), "{}", run.stdout);
    }
    // The other commands of the project work as before.
    project.manage(&["check"]).exits(0);
}

#[test]
fn every_argument_is_handed_on_as_it_is_but_those_that_django_has_used() {
    let Some(project) = Project::new() else { return };
    let project = project.with_an_echo();
    let cases: [(&[&str], &str); 5] = [
        (&[], "[]"),
        (&["-v", "--verbosity=3", "--traceback"], "['-v', '--verbosity=3', '--traceback']"),
        (
            &["--exclude", "a b*", "", "--", "--settings", "x"],
            "['--exclude', 'a b*', '', '--', '--settings', 'x']",
        ),
        (&["--settings", "cvat.settings.swept", "--dry-run"], "['--dry-run']"),
        (
            &["--dry-run", "--pythonpath=/nowhere", "--settings=cvat.settings.swept"],
            "['--dry-run']",
        ),
    ];
    for (args, expected) in cases {
        let run = project.manage(&[&["exportcachecleanup"], args].concat());
        run.exits(7);
        assert!(run.stdout.trim_end().ends_with(expected), "{args:?}: {}", run.stdout);
    }
    // It is the same process, which gets the signals.
    let line = "python \"$0/manage.py\" exportcachecleanup & echo $!; wait $! || true";
    let line = line.replace("$0", project.root.to_str().unwrap());
    let run = project.shell(&line, &[]);
    let numbers: Vec<&str> =
        run.stdout.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{}", run.stdout);
}

#[test]
fn code_can_call_the_command_and_gets_an_error_for_a_failure() {
    let Some(project) = Project::new() else { return };
    let cache = project.cache(1);
    let script = "
import django
from django.core.management import CommandError, call_command
django.setup()
call_command('exportcachecleanup', '--quiet')
for args, options in ((('--wrong',), {}), ((), {'stdout': open('/dev/null')}), ((), {'dry_run': True})):
    try:
        call_command('exportcachecleanup', *args, **options)
    except CommandError as error:
        print(error.returncode, error)
    except TypeError as error:
        print(error)
";
    let line = format!("cd {} && exec python -c \"$1\"", project.root.display());
    let run = project.shell(&line, &[script]);
    let lines: Vec<&str> = run.exits(0).stdout.lines().collect();
    assert_eq!(lines[0], "2 exportcachecleanup ended with code 2", "{}", run.stdout);
    assert!(lines[1].contains("stdout=... is not supported"), "{}", run.stdout);
    assert!(lines[2].contains("dry_run"), "{}", run.stdout);
    assert!(!cache.exists());
}

#[test]
fn a_binary_that_cannot_start_is_named_with_what_to_do() {
    let Some(project) = Project::new() else { return };
    let project = project.with_an_echo();
    let binary = project.binary();
    let cases: [(&dyn Fn(), &str); 3] = [
        (&|| fs::set_permissions(&binary, PermissionsExt::from_mode(0o644)).unwrap(), "chmod +x"),
        (
            &|| {
                written(|| fs::write(&binary, "\x7fELF of another machine")).unwrap();
                fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).unwrap();
            },
            "another kind of processor",
        ),
        (&|| fs::remove_file(&binary).unwrap(), "install the wheel with pip"),
    ];
    for (damage, advice) in cases {
        damage();
        let run = project.manage(&["exportcachecleanup"]);
        run.exits(1);
        assert!(run.stderr.contains(advice) && !run.stderr.contains("Traceback"), "{}", run.stderr);
        assert!(run.stderr.contains(binary.to_str().unwrap()), "{}", run.stderr);
    }
}

#[test]
fn the_modules_are_written_in_the_oldest_python_that_the_wheel_asks_for() {
    let Some(python) = python_tool("python") else { return };
    let script = "
import ast, pathlib, sys
for path in pathlib.Path(sys.argv[1]).rglob('*.py'):
    ast.parse(path.read_text(), feature_version=(3, 7))
    print(path.name)
";
    let run = checked(Command::new(python).args(["-c", script]).arg(file("wheel/sweeper_django")));
    assert!(run.stdout.lines().any(|name| name == "exportcachecleanup.py"), "{}", run.stdout);
    let build = fs::read_to_string(file("wheel/build")).unwrap();
    assert!(build.contains("\nRequires-Python: >=3.7\n"));
}

//! `sweeper health`: what the health check of a container says of a service, and of the passes of a timer.

use super::metrics::address;
use super::{Serving, export};
use crate::wait::wait_until;
use crate::world::{DAY, Run, World, sweeper};

fn health(args: &[&str]) -> Run {
    Run::of(sweeper(&[&["health"], args].concat()))
}

#[test]
fn a_service_that_works_is_healthy_and_one_with_a_failure_or_none_at_all_is_not() {
    let world = World::new();
    export(&world, 1, 2 * DAY);
    let mut service = Serving::on(&world, &["--listen", "0", "--every", "1s", "--at-start"]);
    let address = address(&mut service);
    let url = format!("http://{address}");
    wait_until("a pass", || {
        health(&[&url]).exits(0).stdout.matches("without problems").count() == 2
    });
    health(&[&format!("{url}/")]).exits(0);
    // The other pages of the service, too.
    for other in ["/metrics", "/?x"] {
        let run = health(&[&format!("{url}{other}")]);
        let said = &run.exits(1).stdout;
        assert!(
            said.starts_with("not healthy: ") && said.contains("not the health page"),
            "{said}"
        );
    }
    let port = address.rsplit(':').next().unwrap();
    // As in the image: the variable that the service has, too.
    let mut by_variable = sweeper(&["health"]);
    by_variable.env("SWEEPER_LISTEN", format!("0.0.0.0:{port}"));
    let run = Run::of(by_variable);
    assert!(run.exits(0).stdout.starts_with("healthy: export: last pass ended at "));
    assert_eq!((run.stdout.lines().count(), &*run.stderr), (1, ""));
    // What the page says in several lines is one.
    std::fs::rename(&world.root, world.root.with_extension("away")).unwrap();
    wait_until("a pass that does not start", || health(&[&url]).code == Some(1));
    let run = health(&["--listen", port]);
    assert!(run.exits(1).stdout.starts_with("not healthy: "), "{}", run.stdout);
    assert!(run.stdout.contains("the pass did not start") && run.stdout.lines().count() == 1);
    std::fs::rename(world.root.with_extension("away"), &world.root).unwrap();
    service.stop_any_time();
    let run = health(&[&url]);
    assert!(run.exits(1).stdout.contains("does not answer: Connection refused"), "{}", run.stdout);
    assert!(health(&[&format!("{url}/other")]).exits(1).stdout.contains("/other does not answer"));
}

#[test]
fn the_passes_of_a_timer_are_judged_by_their_metrics_file() {
    let world = World::new();
    export(&world, 1, 2 * DAY);
    let file = world.root.with_extension("prom");
    let path = file.to_str().unwrap();
    let mut run = sweeper(&["run", "--metrics-file", path, "--data"]);
    run.arg(&world.root);
    Run::of(run).exits(0);
    let said = health(&["--metrics-file", path]);
    let line = &said.exits(0).stdout;
    assert!(line.starts_with("healthy: export: last pass without problems "), "{line}");
    assert!(line.contains("; tmp: last pass without problems "), "{line}");
    // An hour ago, with no clock to wait for.
    let text = std::fs::read_to_string(&file).unwrap();
    let is_success = |line: &&str| line.starts_with("sweeper_last_success") && line.contains("tmp");
    let line = text.lines().find(is_success).unwrap();
    let (name, at) = line.rsplit_once(' ').unwrap();
    let earlier = format!("{name} {}", at.parse::<f64>().unwrap() - 3600.0);
    std::fs::write(&file, text.replace(line, &earlier)).unwrap();
    health(&["--metrics-file", path]).exits(0);
    let said = health(&["--metrics-file", path, "--max-age", "30m"]);
    assert!(said.exits(1).stdout.contains("; tmp: last pass without problems "), "{}", said.stdout);
    assert!(said.stdout.contains("(at most 30m)"), "{}", said.stdout);
    assert!(health(&["--metrics-file", "/no/such"]).exits(1).stdout.contains("cannot read"));
}

#[test]
fn what_cannot_be_asked_is_wrong_usage() {
    for (args, word) in [
        (&[][..], "there is nothing to check"),
        (&["https://127.0.0.1:9108/"], "a service speaks plain HTTP: write http://"),
        (&["127.0.0.1:9108"], "write it like http://"),
        (&["--metrics-file", "x", "--max-age", "7"], "--max-age"),
        (&["http://127.0.0.1:9108/", "--metrics-file", "x"], "cannot be used with"),
        (&["http://127.0.0.1:9108/", "--listen", "9108"], "cannot be used with"),
        (&["--listen", "9108", "--metrics-file", "x"], "cannot be used with"),
        (&["http://127.0.0.1:9108/", "--max-age", "1d"], "cannot be used with"),
        (&["--listen", "everywhere"], "write it like 9108"),
    ] {
        let run = health(args);
        assert!(run.exits(2).stderr.contains(word), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn a_flag_of_health_is_not_ignored_because_of_a_variable() {
    let with = |name: &str, value: &str, args: &[&str]| {
        let mut command = sweeper(&[&["health"], args].concat());
        command.env(name, value);
        Run::of(command)
    };
    let said = with("SWEEPER_METRICS_FILE", "/no/such", &["--listen", "9"]).exits(1).stdout.clone();
    assert!(said.contains("http://127.0.0.1:9/healthz"), "{said}");
    let said = with("SWEEPER_LISTEN", "9", &["--metrics-file", "/no/such"]).exits(1).stdout.clone();
    assert!(said.contains("/no/such"), "{said}");
    let run = with("SWEEPER_LISTEN", "9", &["--max-age", "1d"]);
    assert!(run.exits(2).stderr.contains("--max-age is for a metrics file"), "{}", run.stderr);
}

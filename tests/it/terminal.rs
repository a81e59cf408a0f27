//! What a command prints on a terminal.

use std::process::Command;

use crate::world::{Run, World};

/// A command on a terminal of this width.
pub fn on_terminal(world: &World, width: u32, args: &str, env: &[(&str, &str)]) -> Run {
    let program = env!("CARGO_BIN_EXE_sweeper");
    let root = world.root.to_str().unwrap();
    let now = crate::world::NOW;
    let line = format!("stty cols {width} && {program} {args} --data {root} --now {now}");
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env_clear().env("PATH", "/usr/bin:/bin");
    script.envs(env.iter().copied()).stdin(std::process::Stdio::null());
    let mut run = Run::of(script);
    run.stdout = run.stdout.replace('\r', "");
    run
}

/// Text without colors.
pub fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}

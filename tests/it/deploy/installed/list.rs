//! The list of components (SBOM), against its schema, the binary, and the licenses that are allowed.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{checked, released_file, text_of};
use crate::deploy::{python_tool, static_binary};

/// The components with this scope, as `name-version`.
fn components(list: &Value, scope: &str) -> BTreeSet<String> {
    let all = list["components"].as_array().unwrap().iter();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    all.filter(|entry| entry["scope"] == scope)
        .map(|entry| format!("{}-{}", text(entry, "name"), text(entry, "version")))
        .collect()
}

fn list() -> Option<Value> {
    let path = released_file("-x86_64-linux.cdx.json")?;
    Some(serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
}

#[test]
fn it_follows_the_schema_of_cyclonedx() {
    let (Some(python), Some(path)) =
        (python_tool("python"), released_file("-x86_64-linux.cdx.json"))
    else {
        return;
    };
    let script = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())
sys.exit(str(error) if error else 0)
";
    checked(Command::new(python).args(["-c", script]).arg(path));
}

#[test]
fn it_names_what_the_binary_was_made_of() {
    let (Some(list), Some(binary)) = (list(), static_binary()) else { return };
    // A crate that can panic leaves the path of its sources in the binary: .../registry/src/INDEX/NAME-VERSION/...
    let bytes = fs::read(&binary).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let paths = text.split("/registry/src/").skip(1);
    let found: BTreeSet<String> =
        paths.filter_map(|path| path.split('/').nth(1)).map(str::to_owned).collect();
    assert!(found.len() > 30, "{found:?}");
    let linked = components(&list, "required");
    let missing: Vec<_> = found.difference(&linked).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What only the tests use is in no part of it.
    let is_known = |name: &str| text_of("Cargo.toml").contains(&format!("\n{name} = "));
    for name in ["criterion", "proptest", "stateright", "stats_alloc"] {
        let is_in =
            list["components"].as_array().unwrap().iter().any(|entry| entry["name"] == name);
        assert!(is_known(name) && !is_in, "{name}");
    }
    let names: Vec<&Value> =
        list["components"].as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert!(names.contains(&&"rust-std".into()) && names.contains(&&"glibc".into()));
    let of_binary = list["metadata"]["component"]["hashes"][0]["content"].as_str().unwrap();
    let sum = checked(Command::new("sha256sum").arg(&binary));
    assert_eq!(sum.stdout.split(' ').next(), Some(of_binary));
}

#[test]
fn the_license_of_each_component_goes_along() {
    let (Some(list), Some(texts)) = (list(), released_file(".licenses.txt")) else { return };
    let texts = fs::read_to_string(texts).unwrap();
    let (without, with) = texts.split_once("=====").unwrap();
    let all = list["components"].as_array().unwrap().iter();
    for part in all.filter(|part| part["scope"] == "required") {
        let (name, version) = (part["name"].as_str().unwrap(), part["version"].as_str().unwrap());
        assert!(with.contains(&format!("\n{name} {version} (")), "{part}");
    }
    let without: Vec<&str> = without.lines().filter(|line| line.ends_with(')')).collect();
    assert!(without.len() == 2 && without[0].starts_with("rust-std"), "{without:?}");
    assert!(texts.matches("Permission is hereby granted").count() > 30);
}

#[test]
fn every_license_is_one_that_deny_toml_allows() {
    let (Some(list), Some(python)) = (list(), python_tool("python")) else { return };
    // An "or" needs one of its parts, an "and" all of them: read by the library that others read them with.
    let script = "
import sys
from license_expression import get_spdx_licensing
licensing = get_spdx_licensing()
allowed = set(sys.argv[1].split())
def is_allowed(part):
    name = type(part).__name__
    if name == 'OR' or name == 'AND':
        return (any if name == 'OR' else all)(map(is_allowed, part.args))
    return str(part) in allowed
for text in sys.argv[2:]:
    if not is_allowed(licensing.parse(text, validate=True)):
        print(text)
";
    let deny = text_of("deny.toml");
    let allowed = deny.split("allow = [").nth(1).unwrap().split(']').next().unwrap();
    let allowed = allowed.replace(['"', ','], " ");
    let licenses: BTreeSet<&str> = list["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["name"] != "glibc")
        .map(|entry| entry["licenses"][0]["expression"].as_str().unwrap())
        .collect();
    assert!(licenses.len() > 5, "{licenses:?}");
    let mut check = Command::new(&python);
    let run = checked(check.args(["-c", script, &allowed]).args(&licenses));
    assert_eq!(run.stdout, "");
    let run = checked(Command::new(&python).args(["-c", script, &allowed, "MIT AND GPL-3.0-only"]));
    assert_eq!(run.stdout, "MIT AND GPL-3.0-only\n", "the check itself refuses");
}

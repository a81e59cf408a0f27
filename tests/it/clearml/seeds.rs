//! Records of a ClearML server, in the shapes of its API. Ages count back from [`NOW`].

use std::fmt::Write;

use serde_json::{Value, json};

use crate::world::NOW_SECS;

/// A day in seconds.
pub const DAY: i64 = 86_400;

/// An id: 32 hexadecimal digits, always the same for a name.
pub fn id(name: &str) -> String {
    // FNV-1a, on 128 bits.
    let hash = name.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("{hash:032x}")
}

/// A time as the API writes it.
pub fn ago(seconds: i64) -> String {
    let at = std::time::UNIX_EPOCH
        + std::time::Duration::from_secs(u64::try_from(NOW_SECS - seconds).unwrap());
    humantime::format_rfc3339_micros(at).to_string().replace('Z', "+00:00")
}

/// An archived task that completed 40 days ago, with output artifacts at these addresses.
pub fn task(name: &str, artifacts: &[&str]) -> Value {
    task_of(name, 40 * DAY, artifacts)
}

/// The same, `age` seconds ago.
pub fn task_of(name: &str, age: i64, artifacts: &[&str]) -> Value {
    let records: Vec<Value> = artifacts
        .iter()
        .enumerate()
        .map(|(n, uri)| json!({"key": format!("a{n}"), "type": "custom", "mode": "output", "uri": uri}))
        .collect();
    json!({
        "id": id(name), "name": name, "status": "completed", "type": "training",
        "system_tags": ["archived"], "tags": [], "project": id("project"),
        "status_changed": ago(age), "last_update": ago(age), "created": ago(age),
        "execution": {"artifacts": records},
    })
}

/// A record with other values in some fields.
#[expect(clippy::needless_pass_by_value, reason = "it is made for this")]
pub fn with(mut record: Value, fields: Value) -> Value {
    for (key, value) in fields.as_object().unwrap() {
        record[key] = value.clone();
    }
    record
}

/// A model of a task.
pub fn model(name: &str, task: &str, uri: &str, ready: bool) -> Value {
    json!({"id": id(name), "name": name, "task": id(task), "uri": uri, "ready": ready})
}

/// The event of a debug sample.
pub fn sample(url: &str) -> Value {
    json!({"type": "training_debug_image", "url": url})
}

/// The event of a plot with images.
pub fn plot(images: &[&str]) -> Value {
    let images: Vec<Value> = images.iter().map(|url| json!({"source": url})).collect();
    let text = json!({"data": [], "layout": {"images": images}}).to_string();
    json!({"type": "plot", "plot_str": text})
}

/// The path of a file in the folder of a task, below the root of the file server.
pub fn path(task: &str, rest: &str) -> String {
    format!("project/{task}.{}/{rest}", id(task))
}

/// The address of a file at this path. `{files}` is the file server.
pub fn url(path: &str) -> String {
    let mut text = "{files}/".to_owned();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

//! Pages of made-up usages.

use std::time::Duration;

use super::super::charts;
use super::super::tests::usage;
use super::markup::bytes;
use super::*;
use crate::protocol::ListedFailure;
use crate::rules::{Action, Bytes, Moment};

fn written(usage: &Usage) -> String {
    let mut out = Vec::new();
    write(&mut out, usage).unwrap();
    String::from_utf8(out).unwrap()
}

/// The page of a service with one pass that went wrong.
fn served(usage: Option<&Usage>) -> String {
    let measured = usage.map(part);
    let evil = "<script>alert(1)</script>";
    let pass = PassLine {
        end: Moment::from_unix(1_767_323_045, 0),
        zone: evil.to_owned(),
        took: Some(Duration::from_secs(61)),
        seen: 12_345,
        removed: 3,
        kept: 12_341,
        skipped: 0,
        failed: 1,
        freed: Bytes(4096),
        problem: Some(evil.to_owned()),
    };
    let health = Err("export: bad <b>\ntmp: good");
    let live = Live {
        health,
        measurement: evil,
        is_dry_run: false,
        passes: &[pass.clone(), PassLine { problem: None, ..pass }],
        reload_s: 60,
    };
    super::live(measured.as_deref(), &live)
}

/// Every tag of a page, and the text between them.
fn tags(page: &str) -> (Vec<&str>, String) {
    let mut parts = page.split('<');
    let mut text = parts.next().unwrap_or_default().to_owned();
    let tags = parts.map(|part| {
        let (tag, after) = part.split_once('>').unwrap();
        text += after;
        tag
    });
    (tags.collect(), text)
}

#[test]
fn a_page_loads_nothing_and_runs_nothing() {
    let mut usage = usage();
    usage.failed = 1;
    usage.failures = vec![ListedFailure {
        path: "/data/<img src=x onerror=alert(1)>\x1b".into(),
        action: Action::Open,
        errno: Some(13),
        message: "it is \"refused\" & <gone>".to_owned(),
    }];
    usage.mount_points = 1;
    usage.mounts = vec!["/data/'<iframe>".into()];
    usage.notes = vec!["</style><style>".to_owned()];
    for page in [written(&usage), served(Some(&usage)), served(None)] {
        let (tags, text) = tags(&page);
        for tag in &tags {
            let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap();
            let known = [
                "!doctype", "html", "meta", "title", "style", "body", "h1", "h2", "p", "code",
                "svg", "rect", "polygon", "polyline", "table", "tr", "th", "td", "span", "div",
                "data", "ul", "li",
            ];
            assert!(known.contains(&name), "{tag}");
            for attribute in [" src", " href", " on", " style=", " xmlns", " action"] {
                assert!(!tag.contains(attribute), "{tag}");
            }
        }
        assert_eq!(tags.iter().filter(|tag| **tag == "style").count(), 1);
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains('<'));
        assert!(!text.contains("http:") && !text.contains("https:"));
        assert!(!page.contains('\x1b') && !page.contains('\u{202e}'), "{text}");
    }
    let (_, text) = tags(&written(&usage));
    for said in ["&lt;img src=x onerror=alert(1)&gt;\\u{1b}", "&lt;/style&gt;", "\\u{202e}evil"] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_page_says_what_the_service_has_done() {
    let page = served(None);
    for said in [
        "<meta http-equiv=\"refresh\" content=\"60\">",
        "<ul id=\"health\" class=\"bad\"><li>export: bad &lt;b&gt;\n<li>tmp: good\n</ul>",
        "<data value=\"12345\">12,345</data>",
        "<td>2026-01-02T03:04:05Z<td>&lt;script&gt;alert(1)&lt;/script&gt;<td class=\"n wide\">1m 1s",
        "<td>complete",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    assert!(!written(&usage()).contains("refresh"), "a file does not change");
}

#[test]
fn a_page_has_every_number_that_other_formats_have() {
    let usage = usage();
    let page = written(&usage);
    for chart in charts::all(&usage) {
        for bar in chart.bars {
            let number = format!("<data value=\"{}\">{}</data>", bar.bytes.0, bar.bytes);
            assert!(page.contains(&number), "{}: {}: {number}", chart.title, bar.name);
        }
    }
    assert!(page.contains(&format!("{} in ", bytes(usage.totals.allocated))));
}

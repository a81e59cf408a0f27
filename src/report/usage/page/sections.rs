//! The parts of a page about a usage: a heading, a drawing and the numbers beside it.
//!
//! This module must not count: every number comes from the usage or from its charts.

use std::fmt::Write;

use super::markup::{Plain, bytes, count, name};
use super::svg::{self, Part};
use crate::report::canvas::Canvas;
use crate::report::usage::charts::{self, AGES, HORIZONS};
use crate::report::usage::remarks;
use crate::rules::Bytes;
use crate::units::{self, grouped, shown};
use crate::usage::model::ByAge;
use crate::usage::{AreaUsage, KindUsage, Usage};

/// How many colors there are.
const COLORS: usize = 12;

/// Everything about a usage.
pub(super) fn of(usage: &Usage) -> String {
    let parts = [
        head(usage),
        areas(usage),
        ages(usage),
        kinds(usage),
        forecast(usage),
        owners(usage),
        unreached(usage),
        notes(usage),
    ];
    parts.concat()
}

/// A share in percent, which may begin with `<`.
fn share(part: Bytes, all: Bytes) -> String {
    Plain(&charts::percent(part, all)).to_string()
}

/// The color of one of several things; the last area is everything else.
fn color(at: usize) -> String {
    format!("s{}", at % COLORS)
}

fn color_of_area(usage: &Usage, at: usize) -> String {
    if at + 1 == usage.areas.len() { "rest".to_owned() } else { color(at) }
}

fn head(usage: &Usage) -> String {
    let root = Plain(&shown(&usage.data_root)).to_string();
    let at = units::rfc3339(usage.now);
    let totals = usage.totals;
    let mut text = format!(
        "<p class=\"dim\"><code>{root}</code> at {at}</p>\n\
         <p class=\"total\" id=\"totals\">{} in {} inodes</p>\n",
        bytes(totals.allocated),
        count(totals.inodes)
    );
    if let Some(space) = usage.space {
        let (used, all) = (Bytes(space.bytes_used), Bytes(space.usable()));
        let part = Part { class: "kept", amount: used.0, title: "in use".to_owned() };
        let _ = write!(text, "<p>The file system is {} full: {used} of {all}.", share(used, all));
        if space.inodes > 0 {
            let (used, all) = (space.inodes_used, space.inodes);
            let share = share(Bytes(used), Bytes(all));
            let _ = write!(text, " Inodes: {share}, {} of {}.", grouped(used), grouped(all));
        }
        let _ = writeln!(text, "</p>\n{}", svg::bar("bar", &[part], all.0));
    }
    text
}

/// A longer name of an area may be on several lines, so that the table fits a phone.
const LONGEST_UNBROKEN: usize = 16;

/// The zones and other areas: one bar for all, and a row for each.
fn areas(usage: &Usage) -> String {
    let inside = |area: &&AreaUsage| !area.is_outside;
    let whole: u64 = usage.areas.iter().filter(inside).map(|area| area.totals.allocated.0).sum();
    let most = usage.areas.iter().map(|area| area.totals.allocated.0).max().unwrap_or(0);
    let colors: Vec<String> = (0..usage.areas.len()).map(|at| color_of_area(usage, at)).collect();
    let parts = usage.areas.iter().zip(&colors).filter(|(area, _)| inside(area));
    let parts = parts.map(|(area, class)| {
        let amount = area.totals.allocated;
        Part { class, amount: amount.0, title: format!("{}: {amount}", area.name.escape_debug()) }
    });
    let bar = svg::bar("whole", &parts.collect::<Vec<_>>(), whole);
    let mut text = format!(
        "<h2>By area</h2>\n{bar}\n<table id=\"areas\"><tr><th>Area<th class=\"n\">Space\
         <th class=\"n wide\">Share<th><th class=\"n\"><span class=\"swatch expired\"></span>Expired\
         <th class=\"n wide\">Entries<th class=\"n wide\">Inodes<th>Removed by\n"
    );
    for (area, class) in usage.areas.iter().zip(&colors) {
        let allocated = area.totals.allocated;
        let share = if area.is_outside { String::new() } else { share(allocated, Bytes(whole)) };
        let bar = bar_of(allocated, area.expired, most);
        let _ = writeln!(
            text,
            "<tr data-name=\"{name}\"><td><span{class_of_name}><span class=\"swatch {class}\"></span>{name}</span>\
             <div class=\"dim wide\">{about}<code>{path}</code></div>\
             <td class=\"n allocated\">{}<td class=\"n wide\">{share}<td class=\"b\">{bar}\
             <td class=\"n expired-bytes\">{}<td class=\"n wide\">{}<td class=\"n wide inodes\">{}<td class=\"c\">{}",
            bytes(allocated),
            if area.removed_by.command().is_some() {
                bytes(area.expired)
            } else {
                "–".to_owned()
            },
            count(area.entries),
            count(area.totals.inodes),
            removed_by(area.removed_by.command()),
            name = name(&area.name),
            class_of_name = if area.name.len() <= LONGEST_UNBROKEN { " class=\"one\"" } else { "" },
            about = if area.about.is_empty() { String::new() } else { format!("{}, ", area.about) },
            path = Plain(&shown(&area.path)),
        );
    }
    text + "</table>\n"
}

/// A bar that begins with what has expired.
fn bar_of(allocated: Bytes, expired: Bytes, most: u64) -> String {
    let kept = allocated.0.saturating_sub(expired.0);
    let parts = [
        Part { class: "expired", amount: expired.0, title: format!("expired: {expired}") },
        Part { class: "kept", amount: kept, title: format!("not expired: {}", Bytes(kept)) },
    ];
    svg::bar("bar", &parts, most)
}

fn removed_by(command: Option<&str>) -> String {
    match command {
        Some(command) => format!("<code>{}</code>", Plain(command)),
        None => "<span class=\"dim\">never</span>".to_owned(),
    }
}

/// Space by age, each column made of the areas.
fn ages(usage: &Usage) -> String {
    let series: Vec<Series<'_>> = usage
        .areas
        .iter()
        .enumerate()
        .filter(|(_, area)| !area.is_outside && area.totals.allocated > Bytes(0))
        .map(|(at, area)| Series {
            name: area.name.escape_debug().to_string(),
            class: color_of_area(usage, at),
            by_age: &area.by_age,
            allocated: area.totals.allocated,
        })
        .collect();
    histogram("By age", "ages", "Space by age and area", &series, usage.by_age)
}

/// Exports by age, each column made of kinds.
fn kinds(usage: &Usage) -> String {
    let mut kinds: Vec<&KindUsage> = usage.kinds.iter().collect();
    if kinds.is_empty() {
        return String::new();
    }
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.allocated));
    let series: Vec<Series<'_>> = kinds
        .iter()
        .enumerate()
        .map(|(at, kind)| Series {
            name: charts::kind_name(kind),
            class: color(at),
            by_age: &kind.by_age,
            allocated: kind.allocated,
        })
        .collect();
    let sums = usage.kinds.iter().fold(ByAge::default(), |mut sums, kind| {
        sums.iter_mut().zip(kind.by_age).for_each(|(sum, part)| *sum += part);
        sums
    });
    histogram("Exports by kind and age", "kinds", "Exports by age and kind", &series, sums)
}

/// One color of a histogram.
struct Series<'a> {
    name: String,
    class: String,
    by_age: &'a ByAge,
    allocated: Bytes,
}

fn histogram(title: &str, id: &str, label: &str, series: &[Series<'_>], sums: ByAge) -> String {
    let column = |(at, age): (usize, &&str)| {
        let part = |series: &Series<'_>| series.by_age[at];
        let parts = series.iter().map(|series| Part {
            class: &series.class,
            amount: part(series).0,
            title: format!("{}, {age}: {}", series.name, part(series)),
        });
        parts.collect::<Vec<_>>()
    };
    let columns: Vec<_> = AGES.iter().enumerate().map(column).collect();
    let mut text = format!("<h2>{title}</h2>\n{}\n", svg::columns(label, &columns));
    text += &scale(AGES.iter().zip(sums).map(|(age, sum)| (*age, sum)));
    let _ = write!(text, "<ul class=\"legend\" id=\"{id}\">");
    for Series { name, class, allocated, .. } in series {
        let name = Plain(name);
        let _ = writeln!(
            text,
            "<li data-name=\"{name}\"><span class=\"swatch {class}\"></span>{name} {}",
            bytes(*allocated)
        );
    }
    text + "</ul>\n"
}

/// The labels below columns or a curve.
fn scale<'a>(marks: impl Iterator<Item = (&'a str, Bytes)>) -> String {
    // A number and its unit stay on one line.
    let joined = |name: &str| match name.rsplit_once(' ') {
        Some((number, unit)) => format!("{number}\u{a0}{unit}"),
        None => name.to_owned(),
    };
    let mark = |(name, amount)| format!("<span>{}{}</span>", Plain(&joined(name)), bytes(amount));
    format!("<div class=\"scale\">{}</div>\n", marks.map(mark).collect::<String>())
}

fn forecast(usage: &Usage) -> String {
    let expired = charts::expired_in_runs(usage);
    let later = usage.forecast.iter().map(|bytes| expired + *bytes);
    let amounts: Vec<Bytes> = [expired].into_iter().chain(later).collect();
    let names: Vec<String> = ["now".to_owned()]
        .into_iter()
        .chain(HORIZONS.map(|within| format!("in {within}")))
        .collect();
    let curve = svg::curve(
        "What a run could remove, now and later",
        &amounts.iter().map(|amount| amount.0).collect::<Vec<_>>(),
    );
    let scale = scale(names.iter().map(String::as_str).zip(amounts));
    format!(
        "<h2>What <code>sweeper run</code> could remove</h2>\n\
         <p class=\"dim\">What has expired now, and what will have expired if it is not used until then.</p>\n\
         <div id=\"forecast\">{curve}\n{scale}</div>\n"
    )
}

/// The projects, tasks and jobs with the most exports.
fn owners(usage: &Usage) -> String {
    let whole: Bytes = usage.kinds.iter().map(|kind| kind.allocated).sum();
    let rows = usage.owners.iter().map(|of| Row {
        name: format!("{} {}", of.owner.kind, of.owner.id),
        allocated: of.allocated,
        expired: Bytes(0),
        cells: [share(of.allocated, whole), count(of.files)],
    });
    let head = "<th class=\"n wide\">Share<th class=\"n\">Files";
    table("The most exports", "owners", head, "n", rows.collect())
}

/// What the application can no longer reach.
fn unreached(usage: &Usage) -> String {
    let rows = usage.unreached.iter().map(|part| Row {
        name: format!("{} in {}", charts::unreached_name(part.why), part.area.escape_debug()),
        allocated: part.allocated,
        expired: part.expired,
        cells: [count(part.entries), removed_by(part.removed_by.command())],
    });
    let head = "<th class=\"n wide\">Entries<th>Removed by";
    table("No longer in use", "unreachable", head, "c", rows.collect())
}

/// A row of a table with a bar.
struct Row {
    name: String,
    allocated: Bytes,
    expired: Bytes,
    cells: [String; 2],
}

fn table(title: &str, id: &str, head: &str, last_class: &str, rows: Vec<Row>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let most = rows.iter().map(|row| row.allocated.0).max().unwrap_or(0);
    let mut text =
        format!("<h2>{title}</h2>\n<table id=\"{id}\"><tr><th><th class=\"n\">Space<th>{head}\n");
    for Row { name, allocated, expired, cells: [first, second] } in rows {
        let (name, bar) = (Plain(&name), bar_of(allocated, expired, most));
        let _ = writeln!(
            text,
            "<tr data-name=\"{name}\"><td>{name}<td class=\"n allocated\">{}<td class=\"b\">{bar}\
             <td class=\"n wide\">{first}<td class=\"{last_class}\">{second}",
            bytes(allocated)
        );
    }
    text + "</table>\n"
}

/// What is missing from the numbers, and what the user should know besides.
fn notes(usage: &Usage) -> String {
    let mut lines = Vec::new();
    // Memory can be written.
    let _ = remarks(&mut lines, Canvas::PLAIN, usage);
    let lines = String::from_utf8_lossy(&lines);
    if lines.is_empty() {
        return String::new();
    }
    let line =
        |line: &str| format!("<li>{}\n", Plain(line.strip_prefix("usage: ").unwrap_or(line)));
    format!(
        "<h2>Notes</h2>\n<ul id=\"notes\">{}</ul>\n",
        lines.lines().map(line).collect::<String>()
    )
}

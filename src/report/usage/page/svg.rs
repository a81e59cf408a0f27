//! Drawings without text: bars, columns and a curve, which are stretched to the width that there is.
//!
//! This module must not hold a name unescaped, or anything that a style sheet would have to allow: colors are classes.

use std::fmt::Write;

use super::markup::Plain;

/// A part of a bar or a column.
pub(super) struct Part<'a> {
    /// The class that gives it its color.
    pub(super) class: &'a str,
    pub(super) amount: u64,
    /// What it says when it is pointed at.
    pub(super) title: String,
}

/// Thousandths of the whole.
const WIDTH: u64 = 1000;

/// The height of a column that is as high as the drawing.
const HEIGHT: u64 = 100;

/// A bar of parts, one after the other.
pub(super) fn bar(class: &str, parts: &[Part<'_>], whole: u64) -> String {
    let mut text = format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {WIDTH} 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
    );
    let mut before = 0;
    for part in parts.iter().filter(|part| part.amount > 0) {
        let (from, to) = (scaled(before, whole, WIDTH), scaled(before + part.amount, whole, WIDTH));
        let width = Scaled(to.0.saturating_sub(from.0));
        let _ = write!(
            text,
            "<rect class=\"{}\" x=\"{from}\" width=\"{width}\" height=\"10\">",
            part.class
        );
        let _ = write!(text, "<title>{}</title></rect>", Plain(&part.title));
        before += part.amount;
    }
    text + "</svg>"
}

/// Columns side by side, each of parts on top of each other.
pub(super) fn columns(label: &str, columns: &[Vec<Part<'_>>]) -> String {
    let sum = |parts: &Vec<Part<'_>>| parts.iter().map(|part| part.amount).sum::<u64>();
    let most = columns.iter().map(sum).max().unwrap_or(0);
    let mut text = format!(
        "<svg class=\"columns\" viewBox=\"0 0 {} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{}\">",
        columns.len() * 10,
        Plain(label)
    );
    for (at, parts) in columns.iter().enumerate() {
        let mut below = 0;
        for part in parts.iter().filter(|part| part.amount > 0) {
            let height = scaled(part.amount, most, HEIGHT);
            let top = scaled(below + part.amount, most, HEIGHT);
            let top = Scaled((HEIGHT * 100).saturating_sub(top.0));
            let _ = write!(
                text,
                "<rect class=\"{}\" x=\"{}\" y=\"{top}\" width=\"8\" height=\"{height}\">",
                part.class,
                at * 10 + 1
            );
            let _ = write!(text, "<title>{}</title></rect>", Plain(&part.title));
            below += part.amount;
        }
    }
    text + "</svg>"
}

/// A line through amounts at equal distances, and the area below it.
pub(super) fn curve(label: &str, amounts: &[u64]) -> String {
    let most = amounts.iter().max().copied().unwrap_or(0);
    let point = |(at, amount): (usize, &u64)| {
        // A line at the very top would be cut.
        let y = Scaled((HEIGHT * 100).saturating_sub(scaled(*amount, most, HEIGHT - 3).0));
        format!("{},{y}", at * 10 + 5)
    };
    let points: Vec<String> = amounts.iter().enumerate().map(point).collect();
    let points = points.join(" ");
    let width = amounts.len() * 10;
    format!(
        "<svg class=\"columns\" viewBox=\"0 0 {width} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{}\"><polygon class=\"area\" points=\"5,{HEIGHT} {points} {},{HEIGHT}\"/>\
         <polyline class=\"curve\" points=\"{points}\"/></svg>",
        Plain(label),
        width.saturating_sub(5)
    )
}

/// Hundredths of a unit of a drawing.
struct Scaled(u64);

impl std::fmt::Display for Scaled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// How long `part` is if `whole` is `length`.
fn scaled(part: u64, whole: u64, length: u64) -> Scaled {
    let hundredths = u128::from(part) * u128::from(length) * 100 / u128::from(whole.max(1));
    Scaled(u64::try_from(hundredths).unwrap_or(0).min(length * 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(class: &str, amount: u64) -> Part<'_> {
        Part { class, amount, title: "<b>".to_owned() }
    }

    #[test]
    fn the_parts_of_a_bar_are_as_long_as_their_share() {
        let text =
            bar("bar", &[part("a", u64::MAX / 4), part("b", 0), part("c", u64::MAX / 2)], u64::MAX);
        assert!(text.contains("<rect class=\"a\" x=\"0.00\" width=\"249.99\" "), "{text}");
        assert!(text.contains("<rect class=\"c\" x=\"249.99\" width=\"500.00\" "), "{text}");
        assert!(
            text.contains("<title>&lt;b&gt;</title>") && !text.contains("class=\"b\""),
            "{text}"
        );
        assert_eq!(bar("bar", &[], 0).matches("rect").count(), 0);
    }

    #[test]
    fn columns_stand_on_the_ground_and_the_highest_fills_the_drawing() {
        let text = columns("x", &[vec![part("a", 30), part("b", 10)], vec![part("c", 20)], vec![]]);
        for (class, x, y, height) in
            [("a", 1, "25.00", "75.00"), ("b", 1, "0.00", "25.00"), ("c", 11, "50.00", "50.00")]
        {
            let rect = format!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"8\" height=\"{height}\">"
            );
            assert!(text.contains(&rect), "{rect}: {text}");
        }
    }

    #[test]
    fn a_curve_goes_through_its_points() {
        assert!(
            curve("x", &[0, 50, 100])
                .contains("<polyline class=\"curve\" points=\"5,100.00 15,51.50 25,3.00\"/>")
        );
        assert!(curve("x", &[0, 0]).contains("points=\"5,100.00 15,100.00\""), "nothing expires");
    }
}

//! The width and the colors of text on stdout.
//!
//! This module must not write anything.

use crate::config::ColorWhen;
use crate::os::terminal;
use crate::report::canvas::Canvas;

/// Lines fit into a terminal. Elsewhere they have any length.
pub(super) fn canvas(color: ColorWhen) -> Canvas {
    let width = terminal::width();
    let has_color = match color {
        ColorWhen::Auto => width.is_some(),
        ColorWhen::Always => true,
        ColorWhen::Never => false,
    };
    Canvas { width: width.unwrap_or(Canvas::ANY_WIDTH), has_color }
}

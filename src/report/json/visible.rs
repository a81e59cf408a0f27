//! How JSON is written: on one line or several, and with visible text only.
//!
//! This module must not know what is written.

use std::io::{self, Write};

use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// A formatter that lets through visible text only, on one line or several. One type for both: a value would be
/// compiled for each.
pub(super) struct Visible(Option<PrettyFormatter<'static>>);

impl Visible {
    /// Over several lines if there is a formatter for that.
    pub(super) const fn new(pretty: Option<PrettyFormatter<'static>>) -> Self {
        Self(pretty)
    }
}

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        for c in text.chars() {
            // `escape_debug` knows what is visible; JSON has already dealt with quotes and backslashes.
            let visible = matches!(c, '"' | '\'' | '\\') || c.escape_debug().count() == 1;
            if visible {
                out.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match &mut self.0 {
            Some(pretty) => pretty.begin_array(out),
            None => CompactFormatter.begin_array(out),
        }
    }
    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match &mut self.0 {
            Some(pretty) => pretty.end_array(out),
            None => CompactFormatter.end_array(out),
        }
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        match &mut self.0 {
            Some(pretty) => pretty.begin_array_value(out, first),
            None => CompactFormatter.begin_array_value(out, first),
        }
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match &mut self.0 {
            Some(pretty) => pretty.end_array_value(out),
            None => CompactFormatter.end_array_value(out),
        }
    }
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match &mut self.0 {
            Some(pretty) => pretty.begin_object(out),
            None => CompactFormatter.begin_object(out),
        }
    }
    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match &mut self.0 {
            Some(pretty) => pretty.end_object(out),
            None => CompactFormatter.end_object(out),
        }
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        match &mut self.0 {
            Some(pretty) => pretty.begin_object_key(out, first),
            None => CompactFormatter.begin_object_key(out, first),
        }
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match &mut self.0 {
            Some(pretty) => pretty.begin_object_value(out),
            None => CompactFormatter.begin_object_value(out),
        }
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match &mut self.0 {
            Some(pretty) => pretty.end_object_value(out),
            None => CompactFormatter.end_object_value(out),
        }
    }
}

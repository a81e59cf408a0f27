//! The width and the colors of a picture.
//!
//! It must not find out about the terminal: `cmd` says what there is.

/// How a picture is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canvas {
    /// How many columns there are.
    pub width: usize,
    /// Whether to use color.
    pub has_color: bool,
}

/// The colors of a picture, by what they stand for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Paint {
    Title,
    Kept,
    Expired,
    Faint,
}

impl Canvas {
    /// Text in a color, if there is any.
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Title => "1",
            Paint::Kept => "34",
            Paint::Expired => "33",
            Paint::Faint => "2",
        };
        if self.has_color && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

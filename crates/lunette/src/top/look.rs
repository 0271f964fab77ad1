//! How things look: colours where there are any, other means where there are none, and signs that the terminal can
//! show.

use ratatui::style::{Color, Modifier, Style};
use std::collections::VecDeque;

/// What the terminal can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// It has colours, and they are wanted.
    pub colour: bool,
    /// It shows more than ASCII.
    pub unicode: bool,
}

/// A piece of a line.
pub type Piece = (String, Style);

/// A line.
pub type Line = Vec<Piece>;

impl Look {
    /// As the environment has it.
    pub fn from_environment(colour: bool) -> Look {
        let first = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(std::env::var_os).find(|set| !set.is_empty());
        let unicode = first.is_some_and(|set| {
            let set = set.to_string_lossy().to_lowercase();
            set.contains("utf-8") || set.contains("utf8")
        });
        Look { colour, unicode }
    }

    /// Names of things.
    pub fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is selected, and the heads of tables.
    pub fn marked(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Bad news.
    pub fn bad(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colour { style.fg(Color::Red) } else { style.add_modifier(Modifier::UNDERLINED) }
    }

    /// What is of less interest.
    pub fn dim(self) -> Style {
        if self.colour { Style::new().fg(Color::DarkGray) } else { Style::new().add_modifier(Modifier::DIM) }
    }

    /// Pictures.
    pub fn picture(self) -> Style {
        if self.colour { Style::new().fg(Color::Cyan) } else { Style::new() }
    }

    /// In the place of what has no room.
    pub fn ellipsis(self) -> &'static str {
        if self.unicode { "…" } else { ".." }
    }

    /// By what a table is sorted.
    pub fn sorted(self, reversed: bool) -> char {
        match (self.unicode, reversed) {
            (true, false) => '▾',
            (true, true) => '▴',
            (false, false) => 'v',
            (false, true) => '^',
        }
    }

    /// Letters that the terminal can show.
    pub fn text(self, text: &str) -> String {
        match self.unicode {
            true => text.to_owned(),
            false => text.replace('µ', "u").replace('·', "-").replace('…', ".."),
        }
    }

    /// The last values as a line of columns, so many wide, the newest at the right.
    pub fn sparkline(self, values: &VecDeque<f64>, width: usize) -> String {
        const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        const LETTERS: [char; 9] = [' ', '.', '.', ':', ':', '-', '=', '+', '#'];
        let steps = if self.unicode { BLOCKS } else { LETTERS };
        let shown = values.len().min(width);
        let recent = values.iter().skip(values.len() - shown);
        let most = recent.clone().copied().fold(0.0, f64::max);
        let step = |value: &f64| match most > 0.0 && *value > 0.0 {
            // What is there at all is seen.
            true => ((value / most * 8.0).ceil() as usize).clamp(1, 8),
            false => 0,
        };
        let drawn: String = recent.map(|value| steps[step(value)]).collect();
        format!("{drawn:>width$}")
    }

    /// A bar of this share of so many letters.
    pub fn bar(self, share: f64, width: usize) -> String {
        let full = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
        if !self.unicode {
            let letters = full.div_ceil(8).max(usize::from(share > 0.0));
            return "#".repeat(letters);
        }
        const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let bar = "█".repeat(full / 8) + PARTS[full % 8];
        if bar.is_empty() && share > 0.0 { PARTS[1].to_owned() } else { bar }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_show_what_is_there_with_and_without_unicode() {
        let values = VecDeque::from([0.0, 1.0, 50.0, 100.0]);
        let (full, plain) = (Look { colour: true, unicode: true }, Look { colour: false, unicode: false });
        assert_eq!((full.sparkline(&values, 6), plain.sparkline(&values, 4)), ("   ▁▄█".into(), " .:#".into()));
        assert_eq!(full.sparkline(&values, 2), "▄█");
        assert_eq!([0.0, 0.0001, 0.5, 1.0].map(|share| full.bar(share, 4)), ["", "▏", "██", "████"]);
        assert_eq!([0.0, 0.0001, 0.5, 1.0].map(|share| plain.bar(share, 4)), ["", "#", "##", "####"]);
    }
}
